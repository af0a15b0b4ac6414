//! `requests`.

use serde::{Deserialize, Serialize};

use crate::crypto::digest::Digest;
use crate::store::stored::{instant, key_ids, raw_ids};
use crate::store::tables::Stored;
use crate::store::tx::requests::RequestPart;

#[derive(Serialize, Deserialize)]
pub(crate) struct RequestForm {
    at: u64,
    asked: Digest,
    last_seq: u64,
    parts: u16,
    keys: Vec<u64>,
}

impl Stored for RequestPart {
    type Form = RequestForm;

    fn to_form(&self) -> RequestForm {
        RequestForm {
            at: self.at.unix_ms(),
            asked: self.asked,
            last_seq: self.last_seq,
            parts: self.parts,
            keys: raw_ids(&self.keys),
        }
    }

    fn from_form(form: RequestForm) -> Option<Self> {
        Some(Self {
            at: instant(form.at)?,
            asked: form.asked,
            last_seq: form.last_seq,
            parts: form.parts,
            keys: key_ids(&form.keys)?,
        })
    }
}

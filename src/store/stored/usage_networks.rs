//! `usage_networks`: from where a key is used.

use serde::{Deserialize, Serialize};

use crate::model::used_from::SourceNet;
use crate::store::stored::instant;
use crate::store::tables::Stored;
use crate::store::usage_networks::{NetworksRecord, UsedNet};

#[derive(Serialize, Deserialize)]
pub(crate) struct NetworksForm {
    pub(super) since: u64,
    /// The number of the network, the instant of the first use, the day of the last.
    pub(super) nets: Vec<(u64, u64, u32)>,
}

impl Stored for NetworksRecord {
    type Form = NetworksForm;

    fn to_form(&self) -> NetworksForm {
        let nets = self.nets.iter();
        NetworksForm {
            since: self.since.unix_ms(),
            nets: nets
                .map(|net| (net.net.raw(), net.first.unix_ms(), net.last_day))
                .collect(),
        }
    }

    fn from_form(form: NetworksForm) -> Option<Self> {
        let nets = form.nets.into_iter();
        let net = |(net, first, last_day)| {
            Some(UsedNet {
                net: SourceNet::from_raw(net)?,
                first: instant(first)?,
                last_day,
            })
        };
        Some(Self {
            since: instant(form.since)?,
            nets: nets.map(net).collect::<Option<_>>()?,
        })
    }
}

//! A disk of the tests' own: it keeps what was written and what was synced apart,
//! notes every call, and fails when it is told to.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use gatekey::proof::Medium;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// What redb writes at once without a tear, by its own account of the medium: what
/// is smaller may be torn as well, and is.
const SECTOR: usize = 512;

/// A call that changes the disk, or makes changes durable.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write { at: usize, data: Vec<u8> },
    SetSize(usize),
    Sync,
}

impl Step {
    /// Does it to an image.
    pub(crate) fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { at, data } => {
                // A write past the end grows a file.
                if image.len() < at + data.len() {
                    image.resize(at + data.len(), 0);
                }
                image[*at..at + data.len()].copy_from_slice(data);
            }
            Self::SetSize(size) => image.resize(*size, 0),
            Self::Sync => {}
        }
    }

    /// The write as it is where it was torn: some sectors of it, from its beginning.
    fn torn(&self, random: &mut StdRng) -> Self {
        match self {
            Self::Write { at, data } => {
                // Sectors lie at multiples of their size on the disk, not in the write.
                let first = SECTOR - at % SECTOR;
                let sectors = data.len().saturating_sub(first).div_ceil(SECTOR) + 1;
                let kept = match random.random_range(0..sectors) {
                    0 => 0,
                    count => first + (count - 1) * SECTOR,
                };
                Self::Write {
                    at: *at,
                    data: data[..kept.min(data.len())].to_vec(),
                }
            }
            other => other.clone(),
        }
    }

    /// The write as some of its sectors, wherever they are in it.
    fn scattered(&self, random: &mut StdRng) -> Vec<Self> {
        let Self::Write { at, data } = self else {
            return vec![self.clone()];
        };
        let end = at + data.len();
        let mut parts = Vec::new();
        let mut from = *at;
        while from < end {
            let to = end.min((from / SECTOR + 1) * SECTOR);
            if random.next_u32().is_multiple_of(2) {
                parts.push(Self::Write {
                    at: from,
                    data: data[from - at..to - at].to_vec(),
                });
            }
            from = to;
        }
        parts
    }
}

/// What stands on the disk after a loss of power, given what was durable and what was
/// written since.
pub(crate) enum Crash {
    /// Nothing of what was written since.
    Nothing,
    /// All of it.
    All,
    /// Some of it, in its order.
    Some,
    /// Some of it, and of one write, mostly the last, some sectors.
    Torn,
    /// Some of it, and of about every other of these writes, some sectors from anywhere
    /// in it.
    Scattered,
}

impl Crash {
    pub(crate) fn image(&self, durable: &[u8], since: &[Step], random: &mut StdRng) -> Vec<u8> {
        let mut image = durable.to_vec();
        let torn = match since.len() {
            0 => 0,
            count if random.next_u32().is_multiple_of(2) => count - 1,
            count => random.random_range(0..count),
        };
        for (at, step) in since.iter().enumerate() {
            match self {
                Self::Nothing => {}
                Self::All => step.apply(&mut image),
                Self::Torn if at == torn => step.torn(random).apply(&mut image),
                Self::Some | Self::Torn | Self::Scattered
                    if !random.next_u32().is_multiple_of(2) => {}
                Self::Scattered if random.next_u32().is_multiple_of(2) => {
                    for part in step.scattered(random) {
                        part.apply(&mut image);
                    }
                }
                Self::Some | Self::Torn | Self::Scattered => step.apply(&mut image),
            }
        }
        image
    }
}

/// The calls that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    Write,
    SetSize,
    Sync,
    TakePlace,
    SyncPlace,
}

/// How a call fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// An error of the device.
    Broken,
    /// No space left.
    Full,
    /// Half of it is written, and then there is no space left.
    Short,
    /// An error of the device, after which some of what was written since the last sync
    /// is gone, and none of it will ever be durable: so Linux does with pages that it
    /// could not write.
    Dropped,
}

/// Which call fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    /// Counted from the moment at which the fault was set, from 0.
    pub(crate) nth: u64,
    pub(crate) how: How,
    /// Whether all that come after it fail as well.
    pub(crate) lasts: bool,
}

/// The bytes of a file.
#[derive(Debug, Default)]
struct Bytes {
    /// What a read finds.
    live: Vec<u8>,
    /// What a loss of power leaves at the least.
    durable: Vec<u8>,
    since: Vec<Step>,
}

#[derive(Debug, Default)]
struct State {
    /// The first, and its copies.
    files: Vec<Bytes>,
    /// Which of them is found, and which after a loss of power.
    place: usize,
    durable_place: usize,
    journal: Vec<Step>,
    keeps_journal: bool,
    fault: Option<Fault>,
    /// Those that follow one after the other.
    then: VecDeque<Fault>,
    /// How long a sync takes.
    sync_time: Duration,
    /// How many calls of each kind there were since the fault was set.
    calls: [u64; 6],
    failed: u64,
}

/// A file of a disk; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    number: usize,
}

impl Default for Disk {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Disk {
    /// A disk on which an image is durable.
    pub(crate) fn of(image: Vec<u8>) -> Self {
        let file = Bytes {
            durable: image.clone(),
            live: image,
            since: Vec::new(),
        };
        let state = State {
            files: vec![file],
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            number: 0,
        }
    }

    /// The file that is found.
    pub(crate) fn found(&self) -> Self {
        Self {
            state: self.state.clone(),
            number: self.state().place,
        }
    }

    /// Which of the disk's files it is, from 0.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Keeps every call that changes it from now on.
    pub(crate) fn keep_journal(&self) {
        self.state().keeps_journal = true;
    }

    /// Lets a sync take its time, so that those who change wait for each other.
    pub(crate) fn set_sync_time(&self, time: Duration) {
        self.state().sync_time = time;
    }

    pub(crate) fn journal_len(&self) -> usize {
        self.state().journal.len()
    }

    pub(crate) fn take_journal(&self) -> Vec<Step> {
        std::mem::take(&mut self.state().journal)
    }

    /// Lets calls fail from now on, or none.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.state();
        state.fault = fault;
        state.then.clear();
        state.calls = [0; 6];
    }

    /// Lets calls fail one after the other: each counts from the one before.
    pub(crate) fn set_faults(&self, faults: &[Fault]) {
        let mut faults = faults.iter().copied();
        self.set_fault(faults.next());
        self.state().then.extend(faults);
    }

    /// How many calls have failed.
    pub(crate) fn failed(&self) -> u64 {
        self.state().failed
    }

    /// How many calls of a kind there were since a fault was set.
    pub(crate) fn calls(&self, call: Call) -> u64 {
        self.state().calls[call as usize]
    }

    /// What a read finds: what stands there after the process has died.
    pub(crate) fn live(&self) -> Vec<u8> {
        let state = self.state();
        state.files[state.place].live.clone()
    }

    /// What was synced: what stands there at the least after a loss of power.
    pub(crate) fn durable(&self) -> Vec<u8> {
        let state = self.state();
        state.files[state.durable_place].durable.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    /// Counts a call, and says how it fails where it does.
    fn fails(&mut self, call: Call) -> Option<How> {
        let count = self.calls[call as usize];
        self.calls[call as usize] += 1;
        let fault = self.fault.filter(|fault| fault.call == call)?;
        let fails = count == fault.nth || (fault.lasts && count > fault.nth);
        self.failed += u64::from(fails);
        if fails
            && !fault.lasts
            && let Some(next) = self.then.pop_front()
        {
            self.fault = Some(next);
            self.calls = [0; 6];
        }
        fails.then_some(fault.how)
    }

    fn take(&mut self, number: usize, step: Step) {
        let file = &mut self.files[number];
        step.apply(&mut file.live);
        if let Step::Sync = step {
            for step in std::mem::take(&mut file.since) {
                step.apply(&mut file.durable);
            }
        } else {
            file.since.push(step.clone());
        }
        if self.keeps_journal {
            self.journal.push(step);
        }
    }
}

fn error(how: How) -> io::Error {
    match how {
        How::Broken | How::Dropped => io::Error::from_raw_os_error(5),
        How::Full | How::Short => io::ErrorKind::StorageFull.into(),
    }
}

impl Medium for Disk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.state().files[self.number].live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        if let Some(how) = state.fails(Call::Read) {
            return Err(error(how));
        }
        let from = usize::try_from(offset).unwrap();
        let read = state.files[self.number].live.get(from..from + out.len());
        out.copy_from_slice(read.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.state();
        if let Some(how) = state.fails(Call::SetSize) {
            return Err(error(how));
        }
        state.take(self.number, Step::SetSize(usize::try_from(size).unwrap()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let time = self.state().sync_time;
        if !time.is_zero() {
            std::thread::sleep(time);
        }
        let mut state = self.state();
        if let Some(how) = state.fails(Call::Sync) {
            if let How::Dropped = how {
                let mut random = StdRng::seed_from_u64(state.calls[Call::Sync as usize]);
                let file = &mut state.files[self.number];
                let since = std::mem::take(&mut file.since);
                file.live = Crash::Some.image(&file.durable, &since, &mut random);
            }
            return Err(error(how));
        }
        state.take(self.number, Step::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let at = usize::try_from(offset).unwrap();
        if let Some(how) = state.fails(Call::Write) {
            if let How::Short = how {
                let data = data[..data.len() / 2].to_vec();
                state.take(self.number, Step::Write { at, data });
            }
            return Err(error(how));
        }
        let data = data.to_vec();
        state.take(self.number, Step::Write { at, data });
        Ok(())
    }

    fn begin_copy(&self) -> io::Result<Arc<dyn Medium>> {
        let mut state = self.state();
        state.files.push(Bytes::default());
        Ok(Arc::new(Self {
            state: self.state.clone(),
            number: state.files.len() - 1,
        }))
    }

    fn take_place(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Some(how) = state.fails(Call::TakePlace) {
            return Err(error(how));
        }
        assert_eq!(state.place, self.number, "it is not found itself");
        state.place = state.files.len() - 1;
        Ok(())
    }

    fn sync_place(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Some(how) = state.fails(Call::SyncPlace) {
            return Err(error(how));
        }
        state.durable_place = state.place;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each of some writes, how many sectors an image has.
    fn kept(crash: &Crash, writes: usize, seed: u64) -> Vec<usize> {
        const SECTORS: usize = 8;
        let len = SECTORS * SECTOR;
        let since: Vec<Step> = (0..writes)
            .map(|write| Step::Write {
                at: write * len,
                data: vec![1; len],
            })
            .collect();
        let blank = vec![0; writes * len];
        let image = crash.image(&blank, &since, &mut StdRng::seed_from_u64(seed));
        let writes = image.chunks(len);
        writes
            .map(|write| write.iter().filter(|byte| **byte == 1).count() / SECTOR)
            .collect()
    }

    #[test]
    fn one_write_is_torn_or_several_are_as_it_is_asked() {
        let torn = |kept: &[usize]| kept.iter().filter(|kept| (1..8).contains(*kept)).count();
        let most = |crash: &Crash| (0..64).map(|seed| torn(&kept(crash, 6, seed))).max();
        assert_eq!(most(&Crash::Some), Some(0));
        assert_eq!(most(&Crash::Torn), Some(1));
        assert!(most(&Crash::Scattered) >= Some(3));
    }

    #[test]
    fn a_scattered_write_may_have_its_end_without_its_beginning() {
        let write = Step::Write {
            at: 500,
            data: vec![1; 1000],
        };
        let mut random = StdRng::seed_from_u64(1);
        let mut images: Vec<Vec<u8>> = (0..64)
            .map(|_| {
                let mut image = vec![0; 1500];
                for part in write.scattered(&mut random) {
                    part.apply(&mut image);
                }
                // One byte of each sector.
                vec![image[511], image[512], image[1024]]
            })
            .collect();
        images.sort();
        images.dedup();
        assert_eq!(
            images.len(),
            8,
            "all of nothing, one, two and three sectors"
        );
    }
}

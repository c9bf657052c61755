//! The kernels' PTX, which every build embeds, cut up so that each kernel can be a module of its own: a driver compiles what it
//! loads, which takes seconds for all kernels (6.7 on an H200), and a program needs a third of them. What was compiled the driver
//! keeps on disk. Machine code for six chips would be 2.5 MB more of every build (427 KB for one, packed).

use crate::error::{Failure, Result};
use flate2::read::GzDecoder;
use std::collections::HashMap;
use std::ffi::CString;
use std::io::Read;
use std::ops::Range;

/// For every device from compute capability 8.0 on; the driver makes machine code of it.
const PACKED: &[u8] = include_bytes!("../../../../cuda/kernels.ptx.gz");
/// What a kernel begins with; it ends with a brace at the start of a line.
const BEGIN: &str = "\n.visible .entry ";
const END: &str = "\n}\n";

/// See the module.
#[derive(Debug)]
pub(super) struct Ptx {
    text: String,
    /// Version, target and what kernels share.
    head: Range<usize>,
    entries: HashMap<String, Range<usize>>,
}

impl Ptx {
    /// # Errors
    /// `internal` where the text is not what the build makes.
    pub(super) fn embedded() -> Result<Self> {
        let mut text = String::new();
        GzDecoder::new(PACKED).read_to_string(&mut text).map_err(|error| {
            Failure::internal(format!("the embedded kernels cannot be unpacked: {error}"))
        })?;
        Self::of(text)
    }

    fn of(text: String) -> Result<Self> {
        let wrong = |what: &str| Failure::internal(format!("the embedded kernels: {what}"));
        let first = text.find(BEGIN).ok_or_else(|| wrong("there are none"))?;
        let mut entries = HashMap::new();
        let mut at = first;
        while at < text.len() {
            let name = text[at + BEGIN.len()..].split('(').next().unwrap_or_default().to_owned();
            let len = text[at..].find(END).ok_or_else(|| wrong(&format!("{name} has no end")))?;
            let end = at + len + END.len();
            entries.insert(name, at..end);
            // The line break before a kernel is its own, and the last one's as well.
            at = text[end - 1..].find(BEGIN).map_or(text.len(), |gap| end - 1 + gap);
            let mut between = text[end.min(at)..at].lines().map(str::trim);
            if !between.all(|line| line.is_empty() || line.starts_with("//")) {
                return Err(wrong("something stands between two of them, and would be in no module"));
            }
        }
        Ok(Self { head: 0..first, text, entries })
    }

    /// Names of the kernels.
    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// A module of one kernel.
    ///
    /// # Errors
    /// `internal` where there is none of that name.
    pub(super) fn module(&self, kernel: &str) -> Result<CString> {
        let entry = self.entries.get(kernel).map_or(0..0, Range::clone);
        let text = [&self.text[self.head.clone()], &self.text[entry]].concat();
        CString::new(text).map_err(|_| Failure::internal("the embedded kernels: a zero in the text"))
    }

    /// Bytes of a kernel's text, after which the driver takes its time; 0 where there is none of that name.
    pub(super) fn bytes_of(&self, kernel: &str) -> usize {
        self.entries.get(kernel).map_or(0, ExactSizeIterator::len)
    }
}

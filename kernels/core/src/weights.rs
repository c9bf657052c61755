//! Checkpoint tensors, read in place from mapped files. Every range is checked once, here.
#![expect(unsafe_code, reason = "maps files, and hands out slices of maps that it owns")]

use crate::backend::Tensor;
use crate::dtype::DType;
use crate::error::{Failure, Result};
use memmap2::{Advice, Mmap, UncheckedAdvice};
use std::collections::HashMap;
use std::fs::File;

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct TensorSource {
    /// Name in the checkpoint.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Outer dimension (1 for a vector).
    pub rows: u32,
    /// Inner, contiguous dimension.
    pub cols: u32,
    /// Index in the list of files.
    pub file: u32,
    /// Bytes from the start of the file.
    pub offset: i64,
    /// Length in bytes.
    pub bytes: i64,
}

/// The tensors of a model. Their `'static` slices point into the maps, so whatever keeps one must be dropped before this.
pub struct Weights {
    tensors: HashMap<&'static str, Tensor<'static>>,
    // Behind the tensors that borrow from them; names are boxed so that they do not move.
    _names: Vec<Box<str>>,
    maps: Vec<Mmap>,
}

impl Weights {
    /// Maps the files and checks where each tensor lies.
    ///
    /// A file that is cut off by another process while it is mapped ends this process with SIGBUS, as with every program
    /// that maps its weights; replacing a file by renaming over it is safe.
    ///
    /// # Errors
    /// `bad_model` for a file that cannot be read and a tensor that does not fit its file, naming it.
    pub fn open(files: &[String], sources: &[TensorSource]) -> Result<Self> {
        let maps = files.iter().map(|path| map(path)).collect::<Result<Vec<_>>>()?;
        let names: Vec<Box<str>> = sources.iter().map(|source| source.name.as_str().into()).collect();
        let mut tensors = HashMap::with_capacity(sources.len());
        for (source, name) in sources.iter().zip(&names) {
            let bytes = slice(source, files, &maps)?;
            // SAFETY: `name` and `bytes` are memory of a box and a map that `Self` owns and never changes; `Self` drops
            // its tensors before them, and the type's contract asks the same of everyone else who keeps a tensor.
            let (name, bytes) =
                unsafe { (&*std::ptr::from_ref::<str>(name), &*std::ptr::from_ref::<[u8]>(bytes)) };
            let tensor = Tensor {
                name,
                dtype: source.dtype,
                rows: source.rows as usize,
                cols: source.cols as usize,
                bytes,
            };
            if tensors.insert(name, tensor).is_some() {
                return Err(Failure::bad_model(format!("tensor {name}: is listed twice")));
            }
        }
        Ok(Self { tensors, _names: names, maps })
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<Tensor<'static>> {
        self.tensors.get(name).copied()
    }

    /// Gives the pages read so far back to the system. They are read again from the file when touched.
    pub fn release_pages(&self) {
        for map in &self.maps {
            // SAFETY: the map is private, read-only and backed by a file: dropped pages come back with the same bytes.
            // A refusal costs memory only, so it is no error.
            let _refused = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }
}

fn map(path: &str) -> Result<Mmap> {
    let wrong = |error| Failure::bad_model(format!("{path}: cannot be read: {error}"));
    let file = File::open(path).map_err(wrong)?;
    // SAFETY: the map is read-only and private. Nobody may cut the file off while it is mapped (`Weights::open`).
    let map = unsafe { Mmap::map(&file) }.map_err(wrong)?;
    // Weights are read front to back once, at load. Only advice: a refusal changes nothing but speed.
    let _refused = map.advise(Advice::WillNeed);
    Ok(map)
}

fn slice<'a>(source: &TensorSource, files: &[String], maps: &'a [Mmap]) -> Result<&'a [u8]> {
    let bad = |what: String| Failure::bad_model(format!("tensor {}: {what}", source.name));
    let (rows, cols) = (source.rows as usize, source.cols as usize);
    let at = source.file as usize;
    let (Some(path), Some(map)) = (files.get(at), maps.get(at)) else {
        return Err(bad(format!("is in file {at}, there are {}", files.len())));
    };
    if rows == 0 || cols == 0 {
        return Err(bad(format!("is {rows} x {cols}, each must be at least 1")));
    }
    if !cols.is_multiple_of(source.dtype.block_len()) {
        let block = source.dtype.block_len();
        return Err(bad(format!("has {cols} columns, {:?} needs a multiple of {block}", source.dtype)));
    }
    let needed = source.dtype.row_bytes(cols).checked_mul(rows);
    let bytes = usize::try_from(source.bytes).ok();
    let (Some(bytes), true) = (bytes, bytes == needed) else {
        let needed = needed.map_or_else(|| "more than memory holds".to_owned(), |needed| needed.to_string());
        return Err(bad(format!(
            "{:?} {rows} x {cols} takes {needed} bytes, not {}",
            source.dtype, source.bytes
        )));
    };
    usize::try_from(source.offset).ok().and_then(|from| map.get(from..from.checked_add(bytes)?)).ok_or_else(
        || {
            let end = map.len();
            bad(format!("{bytes} bytes at {} lie outside {path}, which has {end}", source.offset))
        },
    )
}

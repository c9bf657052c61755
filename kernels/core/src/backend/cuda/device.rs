//! A device at work: its context, its kernels, its memory, and what went wrong with it for good.
#![expect(unsafe_code, reason = "calls the driver")]

use super::driver::text_of;
use super::kernels::{self, Parameter};
use crate::error::{Failure, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{CUfunction, CUmodule, CUresult};
use cudarc::driver::{CudaContext, CudaStream};
use flate2::read::GzDecoder;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::Read;
use std::sync::{Arc, OnceLock};

/// The kernels as PTX, for every device from compute capability 8.0 on; the driver makes machine code of them.
const PTX: &[u8] = include_bytes!("../../../../cuda/kernels.ptx.gz");

/// A kernel that is loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    pub(super) handle: CUfunction,
    pub(super) parameters: &'static [Parameter],
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Device {
    pub(super) context: Arc<CudaContext>,
    module: CUmodule,
    functions: HashMap<String, Function>,
    /// The first error after which the driver refuses everything.
    lost: OnceLock<String>,
}

// SAFETY: handles of the driver may be used by any thread; nothing here changes after the start.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    /// Takes the device and loads the kernels.
    ///
    /// # Errors
    /// `unsupported` where the driver refuses the kernels, `out_of_memory`.
    pub(super) fn open(ordinal: u32) -> Result<Arc<Self>> {
        let context = open_context(ordinal)?;
        let of = |what: &str, error| failure(&format!("cuda:{ordinal}: {what}"), error);
        // SAFETY: every use of device memory is ordered by this backend's own streams and events; cudarc's slices, which
        // the tracking is for, are not used.
        unsafe { context.disable_event_tracking() };
        let ptx = ptx()?;
        // SAFETY: the image is text that ends with a zero.
        let module = unsafe { result::module::load_data(ptx.as_ptr().cast()) }
            .map_err(|error| of("the driver refuses the kernels", error))?;
        let mut functions = HashMap::new();
        for (name, parameters) in kernels::all() {
            let c_name = CString::new(name.as_str())
                .map_err(|_| Failure::internal(format!("kernel {name}: a zero in its name")))?;
            // SAFETY: the module is loaded, and lives as long as its functions here.
            match unsafe { result::module::get_function(module, c_name) } {
                Ok(handle) => drop(functions.insert(name, Function { handle, parameters })),
                // An op that needs it is refused when the program is compiled.
                Err(DriverError(CUresult::CUDA_ERROR_NOT_FOUND)) => (),
                Err(error) => return Err(of(&format!("kernel {name} cannot be loaded"), error)),
            }
        }
        Ok(Arc::new(Self { context, module, functions, lost: OnceLock::new() }))
    }

    /// A kernel by name.
    ///
    /// # Errors
    /// `unsupported` where this build has none of that name.
    pub(super) fn function(&self, name: &str) -> Result<Function> {
        self.functions
            .get(name)
            .copied()
            .ok_or_else(|| Failure::unsupported(format!("there is no kernel {name} in this build")))
    }

    /// Makes the calling thread one of this device's.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn bind(&self) -> Result<()> {
        self.alive()?;
        self.check("the thread cannot be bound", self.context.bind_to_thread())
    }

    /// A stream of its own, which waits for no other unless told.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn stream(&self) -> Result<Arc<CudaStream>> {
        self.check("a stream cannot be created", self.context.new_stream())
    }

    /// Names what failed; after an error for good everything fails with the first one.
    ///
    /// # Errors
    /// `out_of_memory`, else `device_lost` for good or `internal`.
    pub(super) fn check<T>(&self, what: &str, done: std::result::Result<T, DriverError>) -> Result<T> {
        done.map_err(|error| {
            let failure = failure(&format!("cuda:{}: {what}", self.context.ordinal()), error);
            if is_final(error) {
                let first = self.lost.get_or_init(|| failure.message.clone());
                return Failure::device_lost(first.clone());
            }
            failure
        })
    }

    /// # Errors
    /// `device_lost` after an error for good.
    pub(super) fn alive(&self) -> Result<()> {
        self.lost.get().map_or(Ok(()), |first| Err(Failure::device_lost(first.clone())))
    }

    /// Bytes of device memory that are free, and all.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn memory(&self) -> Result<(usize, usize)> {
        self.bind()?;
        self.check("does not tell its memory", result::mem_get_info())
    }
}

fn open_context(ordinal: u32) -> Result<Arc<CudaContext>> {
    CudaContext::new(ordinal as usize)
        .map_err(|error| failure(&format!("cuda:{ordinal}: cannot be opened"), error))
}

/// Bytes of a device's memory that are free while it is open, and all.
///
/// # Errors
/// `out_of_memory` where there is none left to open it, what the driver reports.
pub(super) fn memory_of(ordinal: u32) -> Result<(usize, usize)> {
    open_context(ordinal)?
        .mem_get_info()
        .map_err(|error| failure(&format!("cuda:{ordinal}: does not tell its memory"), error))
}

impl Drop for Device {
    fn drop(&mut self) {
        // With a context that is lost there is nothing to unload.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: nobody has the device any more, so nobody launches its functions.
            let _lost = unsafe { result::module::unload(self.module) };
        }
    }
}

/// The text of the kernels, with the zero that the driver wants behind it.
fn ptx() -> Result<Vec<u8>> {
    let mut text = Vec::new();
    GzDecoder::new(PTX)
        .read_to_end(&mut text)
        .map_err(|error| Failure::internal(format!("the embedded kernels cannot be unpacked: {error}")))?;
    text.push(0);
    CStr::from_bytes_with_nul(&text).map_err(|_| Failure::internal("the embedded kernels are no text"))?;
    Ok(text)
}

/// A driver's error as one of ours.
fn failure(what: &str, error: DriverError) -> Failure {
    let message = format!("{what}: {}", text_of(error));
    match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => Failure::out_of_memory(message),
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
        | CUresult::CUDA_ERROR_INVALID_PTX => Failure::unsupported(message),
        _ => Failure::internal(message),
    }
}

/// Errors that leave the context unusable (CUDA driver API, `CUresult`: "the process must be terminated and relaunched").
fn is_final(error: DriverError) -> bool {
    matches!(
        error.0,
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_EXTERNAL_DEVICE
            | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
            | CUresult::CUDA_ERROR_UNKNOWN
    )
}

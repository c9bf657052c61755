//! A device at work: its context, its kernels, its memory, and what went wrong with it for good.
#![expect(unsafe_code, reason = "calls the driver")]

use super::driver::text_of;
use super::kernels::{self, Parameter};
use super::ptx::Ptx;
use crate::error::{Failure, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{CUfunction, CUmodule, CUresult};
use cudarc::driver::{CudaContext, CudaStream};
use std::collections::HashMap;
use std::ffi::CString;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A driver that takes the smallest kernel takes all.
const SMALLEST: &str = "add_f32";

/// A kernel that is loaded.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) handle: CUfunction,
    pub(super) parameters: Arc<[Parameter]>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Device {
    pub(super) context: Arc<CudaContext>,
    ptx: Ptx,
    loaded: Mutex<HashMap<String, Loaded>>,
    /// The first error after which the driver refuses everything.
    lost: OnceLock<String>,
}

/// A module of one kernel.
#[derive(Debug)]
struct Loaded {
    module: CUmodule,
    function: Function,
}

// SAFETY: handles of the driver may be used by any thread.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    /// Takes the device; kernels are loaded when they are asked for.
    ///
    /// # Errors
    /// `unsupported` where the driver refuses the kernels, `out_of_memory`.
    pub(super) fn open(ordinal: u32) -> Result<Arc<Self>> {
        let context = open_context(ordinal)?;
        // SAFETY: every use of device memory is ordered by this backend's own streams and events; cudarc's slices, which
        // the tracking is for, are not used.
        unsafe { context.disable_event_tracking() };
        let device = Self { context, ptx: Ptx::embedded()?, loaded: Mutex::default(), lost: OnceLock::new() };
        device.function(SMALLEST)?;
        Ok(Arc::new(device))
    }

    /// Whether this build has a kernel.
    ///
    /// # Errors
    /// `unsupported` where it has none of that name.
    pub(super) fn has(&self, name: &str) -> Result<()> {
        match self.ptx.bytes_of(name) {
            0 => Err(Failure::unsupported(format!("there is no kernel {name} in this build"))),
            _ => Ok(()),
        }
    }

    /// A kernel by name, loaded if it is not yet.
    ///
    /// # Errors
    /// As [`Self::has`]; `unsupported` where the driver refuses it.
    pub(super) fn function(&self, name: &str) -> Result<Function> {
        let known = self.loaded().get(name).map(|loaded| loaded.function.clone());
        known.map_or_else(|| self.load(name), Ok)
    }

    /// Loads kernels side by side, those that take long first.
    ///
    /// # Errors
    /// As [`Self::function`].
    pub(super) fn load_all<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut left: Vec<&str> = names.into_iter().collect();
        left.sort_by_key(|name| self.ptx.bytes_of(name));
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(left.len());
        let left = Mutex::new(left);
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let work = || std::iter::from_fn(next).try_for_each(|name| self.function(name).map(drop));
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(Failure::internal("a thread that loads kernels panicked")))
            })
        })
    }

    fn loaded(&self) -> MutexGuard<'_, HashMap<String, Loaded>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, name: &str) -> Result<Function> {
        self.has(name)?;
        self.bind()?;
        let (_, parameters) = kernels::all()
            .find(|(listed, _)| listed == name)
            .ok_or_else(|| Failure::internal(format!("kernel {name} is not in the list")))?;
        let image = self.ptx.module(name)?;
        let c_name = CString::new(name)
            .map_err(|_| Failure::internal(format!("kernel {name}: a zero in its name")))?;
        // SAFETY: the image is text that ends with a zero.
        let module = self.check(&format!("the driver refuses the kernel {name}"), unsafe {
            result::module::load_data(image.as_ptr().cast())
        })?;
        // SAFETY: the module is loaded, and lives as long as its function here.
        let handle = self.check(&format!("kernel {name} cannot be found"), unsafe {
            result::module::get_function(module, c_name)
        })?;
        let function = Function { handle, parameters };
        self.loaded().insert(name.to_owned(), Loaded { module, function: function.clone() });
        Ok(function)
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
            for (_, Loaded { module, .. }) in self.loaded().drain() {
                // SAFETY: nobody has the device any more, so nobody launches its functions.
                let _lost = unsafe { result::module::unload(module) };
            }
        }
    }
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

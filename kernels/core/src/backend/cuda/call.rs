//! One launch of a kernel: its arguments, held to the list of kernels, and its grid.
#![expect(unsafe_code, reason = "launches kernels")]

use super::device::{Device, Function};
use super::kernels::Parameter;
use crate::error::{Failure, Result};
use cudarc::driver::{CudaStream, result};
use std::ffi::c_void;

/// More parameters than any kernel has.
const MOST: usize = 16;

/// A launch in the making. Arguments come in the order of the kernel's parameters.
pub(super) struct Call<'a> {
    device: &'a Device,
    function: Function,
    /// Little end first: an int or a float lies where the driver looks for it.
    arguments: [u64; MOST],
    count: usize,
    /// The first argument that does not fit.
    wrong: Option<String>,
}

impl<'a> Call<'a> {
    /// Without arguments.
    ///
    /// # Errors
    /// As [`Device::function`].
    pub(super) fn of(device: &'a Device, kernel: &str) -> Result<Self> {
        let function = device.function(kernel)?;
        Ok(Self { device, function, arguments: [0; MOST], count: 0, wrong: None })
    }

    /// An address on the device; 0 = none.
    pub(super) fn pointer(self, address: u64) -> Self {
        self.push(address, |parameter| matches!(parameter, Parameter::Pointer(_)))
    }

    /// A number.
    pub(super) fn int(mut self, number: usize) -> Self {
        if i32::try_from(number).is_err() {
            self.wrong.get_or_insert_with(|| format!("{number} is more than an i32 holds"));
        }
        self.push(number as u64, |parameter| matches!(parameter, Parameter::Int(_)))
    }

    /// A float.
    pub(super) fn float(self, number: f32) -> Self {
        self.push(u64::from(number.to_bits()), |parameter| matches!(parameter, Parameter::Float(_)))
    }

    fn push(mut self, argument: u64, fits: impl Fn(&Parameter) -> bool) -> Self {
        match self.function.parameters.get(self.count) {
            Some(parameter) if fits(parameter) => self.arguments[self.count] = argument,
            other => {
                let number = self.count;
                self.wrong.get_or_insert_with(|| format!("argument {number} is for parameter {other:?}"));
            }
        }
        self.count += 1;
        self
    }

    /// Launches the kernel in the order of the stream; a grid without blocks is nothing to do.
    ///
    /// # Safety
    /// The addresses are of memory of the sizes that the kernel's contract (`kernels.rs`) asks for, alive until the stream
    /// is through.
    ///
    /// # Errors
    /// `internal` where the arguments are not the kernel's; as [`Device::check`].
    pub(super) unsafe fn launch(
        mut self,
        stream: &CudaStream,
        grid: [usize; 3],
        threads: u32,
        shared_bytes: u32,
    ) -> Result<()> {
        if self.count != self.function.parameters.len() {
            let (has, needs) = (self.count, self.function.parameters.len());
            self.wrong.get_or_insert_with(|| format!("{has} arguments, the kernel has {needs}"));
        }
        if let Some(wrong) = self.wrong {
            return Err(Failure::internal(wrong));
        }
        if grid.contains(&0) {
            return Ok(());
        }
        let grid = (grid[0] as u32, grid[1] as u32, grid[2] as u32);
        let mut places: [*mut c_void; MOST] =
            std::array::from_fn(|i| (&raw mut self.arguments[i]).cast::<c_void>());
        // SAFETY: the function is of the device's module, its arguments have its parameters' sizes, and the driver copies
        // them before it returns; what they point to is the caller's duty.
        let done = unsafe {
            result::launch_kernel(
                self.function.handle,
                grid,
                (threads, 1, 1),
                shared_bytes,
                stream.cu_stream(),
                &mut places[..self.count],
            )
        };
        self.device.check("a kernel cannot be launched", done)
    }
}

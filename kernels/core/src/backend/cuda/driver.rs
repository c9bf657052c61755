//! Whether this machine has a CUDA driver that kvengine can use, and its devices. Nothing of CUDA is linked: the driver's
//! library is looked for when it is first asked for, and a machine without one is an answer here, no failure.
#![expect(unsafe_code, reason = "asks the driver")]

use crate::error::{Failure, Result};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::sync::OnceLock;

/// The oldest driver that takes the kernels' PTX, as the driver counts: 12.0.
const FLOOR: i32 = 12_000;
/// The same as the driver's users know it.
const FLOOR_DRIVER: &str = "525.60.13";
/// The oldest devices that the kernels are made for.
const LEAST_CAPABILITY: (i32, i32) = (8, 0);

/// What this machine has for the cuda backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct CudaStatus {
    /// Newest CUDA version that the driver takes, as `12.4`.
    pub driver: Option<String>,
    /// Devices, in the driver's order.
    pub devices: Vec<CudaDevice>,
    /// Why no device can be used, in one line.
    pub problem: Option<String>,
}

/// A device that the driver shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct CudaDevice {
    /// Its number, as in `cuda:1`.
    pub ordinal: u32,
    /// Its name.
    pub name: String,
    /// Compute capability, as `8.0`.
    pub capability: String,
    /// Bytes of its memory.
    pub total_bytes: i64,
    /// Why it cannot be used, in one line.
    pub problem: Option<String>,
}

/// Looks for the driver and its devices. Creates no context, takes no device memory.
pub fn status() -> CudaStatus {
    let none = |driver, problem| CudaStatus { driver, devices: vec![], problem: Some(problem) };
    let version = match version() {
        Ok(version) => version,
        Err(problem) => return none(None, problem),
    };
    let driver = Some(dotted(version / 1000, version % 1000 / 10));
    if version < FLOOR {
        let floor = dotted(FLOOR / 1000, FLOOR % 1000 / 10);
        let problem = format!(
            "the NVIDIA driver takes CUDA {}, at least {floor} is needed: install driver {FLOOR_DRIVER} or newer",
            dotted(version / 1000, version % 1000 / 10)
        );
        return none(driver, problem);
    }
    let devices = result::init().and_then(|()| result::device::get_count()).map(|count| {
        (0..count).map(|ordinal| device(ordinal).unwrap_or_else(|error| silent(ordinal, error))).collect()
    });
    let devices: Vec<CudaDevice> = match devices {
        Ok(devices) => devices,
        Err(error) => return none(driver, format!("the NVIDIA driver does not start: {}", text_of(error))),
    };
    let problem = if devices.iter().any(|device| device.problem.is_none()) {
        None
    } else {
        let first = devices.first().and_then(|device| device.problem.clone());
        Some(first.unwrap_or_else(|| "the NVIDIA driver shows no device".to_owned()))
    };
    CudaStatus { driver, devices, problem }
}

/// Which device is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The first that can be used.
    First,
    Number(u32),
}

/// The number of the device to use.
///
/// # Errors
/// `unsupported`, with the reason in one line.
pub(super) fn choose(wanted: Wanted) -> Result<u32> {
    let status = status();
    let Wanted::Number(ordinal) = wanted else {
        let first = status.devices.iter().find(|device| device.problem.is_none());
        return match (first, status.problem) {
            (Some(device), _) => Ok(device.ordinal),
            (None, problem) => Err(Failure::unsupported(problem.unwrap_or_default())),
        };
    };
    match status.devices.iter().find(|device| device.ordinal == ordinal) {
        Some(CudaDevice { problem: None, .. }) => Ok(ordinal),
        Some(CudaDevice { problem: Some(problem), .. }) => Err(Failure::unsupported(problem.clone())),
        None => Err(Failure::unsupported(match (status.devices.len(), status.problem) {
            (0, Some(problem)) => problem,
            (count, _) => format!("there is no device {ordinal}; there are {count}, counted from 0"),
        })),
    }
}

/// Newest CUDA version that the driver takes: 1000 * major + 10 * minor.
fn version() -> std::result::Result<i32, String> {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: loading the driver's library runs its initialisers, which is what it is for.
    if !*PRESENT.get_or_init(|| unsafe { sys::is_culib_present() }) {
        return Err("there is no NVIDIA driver: libcuda.so.1 was not found".into());
    }
    let mut version = 0;
    // SAFETY: the library is there, and `version` is written by the call alone.
    match unsafe { sys::cuDriverGetVersion(&raw mut version) }.result() {
        Ok(()) => Ok(version),
        Err(error) => Err(format!("the NVIDIA driver does not tell its version: {}", text_of(error))),
    }
}

fn device(ordinal: i32) -> std::result::Result<CudaDevice, DriverError> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let device = result::device::get(ordinal)?;
    // SAFETY: the driver has just given the device.
    let (major, minor, total) = unsafe {
        (
            result::device::get_attribute(device, MAJOR)?,
            result::device::get_attribute(device, MINOR)?,
            result::device::total_mem(device)?,
        )
    };
    let name = result::device::get_name(device)?;
    let capability = dotted(major, minor);
    let least = dotted(LEAST_CAPABILITY.0, LEAST_CAPABILITY.1);
    let problem = ((major, minor) < LEAST_CAPABILITY).then(|| {
        format!("{name} has compute capability {capability}, at least {least} is needed (Ampere or newer)")
    });
    Ok(CudaDevice { ordinal: ordinal as u32, name, capability, total_bytes: total as i64, problem })
}

/// A device that does not answer.
fn silent(ordinal: i32, error: DriverError) -> CudaDevice {
    CudaDevice {
        ordinal: ordinal as u32,
        name: "unknown".into(),
        capability: "unknown".into(),
        total_bytes: 0,
        problem: Some(format!("device {ordinal} does not answer: {}", text_of(error))),
    }
}

fn dotted(major: i32, minor: i32) -> String {
    format!("{major}.{minor}")
}

/// The driver's name of an error and its words for it.
pub(super) fn text_of(error: DriverError) -> String {
    let name = error.error_name().map(|name| name.to_string_lossy().into_owned());
    let words = error.error_string().map(|words| words.to_string_lossy().into_owned());
    match (name, words) {
        (Ok(name), Ok(words)) if name != words => format!("{name}: {words}"),
        (Ok(name), _) => name,
        (Err(_), _) => format!("error {}", error.0 as u32),
    }
}

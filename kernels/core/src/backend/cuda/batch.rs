//! Copies of many pages in one call of the driver, where it has that call; else in one call each. A page is a tenth of a megabyte
//! and more, so that a call each costs little beside its copy: no kernel copies pages, which would take the steps' processors.
#![expect(unsafe_code, reason = "calls the driver")]

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::{self, CUdriverProcAddressQueryResult, CUresult, CUstream};
use std::ffi::c_void;
use std::sync::OnceLock;

/// From one place to another, in bytes. Places are of the device or of the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageCopy {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) len: usize,
}

/// `cuMemcpyBatchAsync` as CUDA 12.8 brought it (cuda.h of 12.8): targets, sources, sizes, their number, attributes, the first copy
/// of each attribute, their number, the copy that fails, the stream. 13.0 has another one of that name without the failing
/// copy; who asks for 12.8 gets this one from every driver.
type BatchAsync = unsafe extern "C" fn(
    *mut u64,
    *mut u64,
    *mut usize,
    usize,
    *mut Attributes,
    *mut usize,
    usize,
    *mut usize,
    CUstream,
) -> CUresult;
const SINCE: i32 = 12_080;

/// `CUmemcpyAttributes` (cuda.h of 12.8).
#[repr(C)]
struct Attributes {
    source_order: u32,
    /// Type and number, both 0: the driver knows where addresses lie.
    source_location: [i32; 2],
    target_location: [i32; 2],
    flags: u32,
}

/// `CU_MEMCPY_SRC_ACCESS_ORDER_STREAM`: sources are read in the order of the stream.
const IN_STREAM_ORDER: u32 = 1;
/// `CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE`: copy engines, not processors.
const BESIDE_COMPUTING: u32 = 1;

/// Puts copies on a stream, in any order.
///
/// # Safety
/// Both places of each copy are memory of that many bytes which nobody else uses until the stream is through, or reads where
/// it is a source.
///
/// # Errors
/// What the driver reports; copies may be under way all the same.
pub(super) unsafe fn copy_all(copies: &[PageCopy], stream: CUstream) -> Result<(), DriverError> {
    let at_once = match batch_async() {
        // SAFETY: the caller's duty.
        Some(call) if copies.len() > 1 => unsafe { copy_at_once(call, copies, stream) },
        _ => Err(DriverError(CUresult::CUDA_ERROR_NOT_SUPPORTED)),
    };
    match at_once {
        // The driver has no such call, or not for such memory.
        Err(DriverError(CUresult::CUDA_ERROR_NOT_SUPPORTED | CUresult::CUDA_ERROR_INVALID_VALUE)) => {
            // SAFETY: the caller's duty.
            copies.iter().try_for_each(|copy| unsafe { copy_one(*copy, stream) })
        }
        done => done,
    }
}

/// The driver's call, if it has it; looked up once.
fn batch_async() -> Option<BatchAsync> {
    static FOUND: OnceLock<Option<BatchAsync>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let mut address: *mut c_void = std::ptr::null_mut();
        let mut status = CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SUCCESS;
        // SAFETY: a name that ends with a zero, and two places to write to.
        let asked = unsafe {
            sys::cuGetProcAddress_v2(
                c"cuMemcpyBatchAsync".as_ptr(),
                &raw mut address,
                SINCE,
                0,
                &raw mut status,
            )
        };
        if asked.result().is_err() || address.is_null() {
            return None;
        }
        // SAFETY: the driver gives the function of that name as this version has it.
        Some(unsafe { std::mem::transmute::<*mut c_void, BatchAsync>(address) })
    })
}

/// # Safety
/// As [`copy_all`].
unsafe fn copy_at_once(call: BatchAsync, copies: &[PageCopy], stream: CUstream) -> Result<(), DriverError> {
    let mut to: Vec<u64> = copies.iter().map(|copy| copy.to).collect();
    let mut from: Vec<u64> = copies.iter().map(|copy| copy.from).collect();
    let mut sizes: Vec<usize> = copies.iter().map(|copy| copy.len).collect();
    let mut attributes = Attributes {
        source_order: IN_STREAM_ORDER,
        source_location: [0; 2],
        target_location: [0; 2],
        flags: BESIDE_COMPUTING,
    };
    let (mut first, mut failed) = (0, 0);
    // SAFETY: three lists of the same length, one attribute from the first copy on; all are read in the call. The rest is the
    // caller's duty.
    let done = unsafe {
        call(
            to.as_mut_ptr(),
            from.as_mut_ptr(),
            sizes.as_mut_ptr(),
            copies.len(),
            &raw mut attributes,
            &raw mut first,
            1,
            &raw mut failed,
            stream,
        )
    };
    done.result()
}

/// # Safety
/// As [`copy_all`].
unsafe fn copy_one(PageCopy { from, to, len }: PageCopy, stream: CUstream) -> Result<(), DriverError> {
    // SAFETY: the caller's duty.
    unsafe { sys::cuMemcpyAsync(to, from, len, stream).result() }
}

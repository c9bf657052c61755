//! What can be said without a device. With one, `suite.rs` runs on it.

use super::call::Call;
use super::*;
use crate::testing::has_cuda;

#[test]
fn names_ask_for_a_device_or_for_any() {
    for (name, asks) in [
        ("cuda", Some(Wanted::First)),
        ("cuda:0", Some(Wanted::Number(0))),
        ("cuda:12", Some(Wanted::Number(12))),
        ("cuda:", None),
        ("cuda:-1", None),
        ("cuda:x", None),
        ("cudax", None),
        ("cpu", None),
    ] {
        assert_eq!(wanted_in(name), asks, "{name}");
        assert_eq!(is_name(name), asks.is_some(), "{name}");
    }
}

/// Skipped where there is no device: [`has_cuda`].
fn backend() -> Option<CudaBackend> {
    has_cuda().then(|| CudaBackend::new("cuda", 2).unwrap())
}

#[test]
fn buffers_hold_what_was_put_there_and_nothing_else_is_reached() {
    let Some(mut cuda) = backend() else { return };
    let buffer = cuda.alloc(1000).unwrap();
    let mut found = vec![1; 1000];
    cuda.download(buffer, 0, &mut found).unwrap();
    assert!(found.iter().all(|&byte| byte == 0));
    cuda.upload(buffer, 990, &[7; 10]).unwrap();
    cuda.download(buffer, 989, &mut found[..11]).unwrap();
    assert_eq!(found[..11], [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]);
    for (offset, len) in [(991, 10), (1001, 0), (0, 1001), (usize::MAX, 1)] {
        assert!(cuda.upload(buffer, offset, &vec![0; len]).is_err(), "{len} at {offset}");
    }
}

#[test]
fn pages_come_and_go_by_the_devices_own_copies() {
    let Some(mut cuda) = backend() else { return };
    let pages = cuda.alloc_pages(4096, 6).unwrap();
    let device = pages.remote().unwrap();
    let mut host = vec![0_u8; 4 * 4096];
    device.fill(5, 9).unwrap();
    {
        let (pinned, pageable) = host.split_at_mut(2 * 4096);
        let pin = device.pin(pinned.as_mut_ptr(), pinned.len()).unwrap();
        for (i, page) in pinned.chunks_exact_mut(4096).chain(pageable.chunks_exact_mut(4096)).enumerate() {
            page.fill(i as u8 + 1);
            device.load(&[(&*page, i + 1)]).unwrap();
        }
        drop(pin);
    }
    let arena = Arena { pages: pages.clone(), block_size: 16, element_bytes: 2, groups: vec![] };
    cuda.copy_pages(&arena, &[[4, 1], [1, 3], [5, 2]]).unwrap();
    cuda.synchronize().unwrap();
    let mut places: Vec<(usize, &mut [u8])> =
        host.chunks_exact_mut(4096).enumerate().map(|(i, page)| (i + 1, page)).collect();
    device.store(&mut places).unwrap();
    let found: Vec<u8> = host.iter().step_by(4096).copied().collect();
    assert_eq!(found, [4, 9, 4, 4]);
    assert!(host.chunks_exact(4096).all(|page| page.iter().all(|byte| *byte == page[0])));
    assert!(device.load(&[(&host[..4096], 6)]).is_err());
    assert!(device.load(&[(&host[..4095], 1)]).is_err());
}

#[test]
fn arguments_that_are_not_the_kernels_are_refused_before_the_launch() {
    let Some(cuda) = backend() else { return };
    let message = |call: Call<'_>| {
        #[expect(unsafe_code, reason = "nothing is launched")]
        // SAFETY: the call is refused.
        unsafe { call.launch(&cuda.stream, [1, 1, 1], 32, 0) }.unwrap_err().message
    };
    let call = || Call::of(&cuda.device, "add_f32").unwrap().pointer(0).pointer(0);
    assert_eq!(message(call().pointer(0)), "3 arguments, the kernel has 4");
    assert_eq!(message(call().int(1)), "argument 2 is for parameter Some(Pointer(\"y\"))");
    assert_eq!(message(call().pointer(0).int(1 << 40)), "1099511627776 is more than an i32 holds");
    assert_eq!(message(call().pointer(0).int(1).int(1)), "argument 4 is for parameter None");
    let missing = Call::of(&cuda.device, "nothing").err().unwrap();
    assert_eq!(missing.message, "there is no kernel nothing in this build");
}

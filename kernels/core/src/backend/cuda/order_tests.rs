//! Work on different streams that meets in one page or one buffer. Copies are put there by threads of their own, as transfers do: a
//! host that has waited orders what it puts on streams afterwards itself, and no other thread's work.

use super::memory::{DeviceMemory, Pinned};
use super::*;
use crate::pages::RemotePages;
use crate::testing::has_cuda;

const PAGE: usize = 4096;

/// A device with four zeroed pages. `None` where there is no device: [`has_cuda`].
struct World {
    cuda: CudaBackend,
    arena: Arena,
}

impl World {
    fn new() -> Option<Self> {
        if !has_cuda() {
            return None;
        }
        let mut cuda = CudaBackend::new("cuda", 1).unwrap();
        let pages = cuda.alloc_pages(PAGE, 4).unwrap();
        Some(Self { cuda, arena: Arena { pages, block_size: 16, element_bytes: 2, groups: vec![] } })
    }

    fn pages(&self) -> &dyn RemotePages {
        self.arena.pages.remote().unwrap().as_ref()
    }

    /// Fills a page from the host.
    fn load(&self, page: usize, tag: u8) {
        let pages = self.pages();
        elsewhere(|| pages.load(&[(&[tag; PAGE], page)]).unwrap());
    }

    /// What fills a page, read to the host.
    fn store(&self, page: usize) -> u8 {
        let (pages, mut bytes) = (self.pages(), [0xFF; PAGE]);
        elsewhere(|| pages.store(&mut [(page, &mut bytes)]).unwrap());
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a torn page");
        bytes[0]
    }

    /// What a step does with pages.
    fn step(&mut self, from: i32, to: i32) {
        self.cuda.copy_pages(&self.arena, &[[from, to]]).unwrap();
    }
}

fn elsewhere(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}

#[test]
fn new_pages_are_zero_for_whoever_reads_them_first() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.store(3), 0);
}

#[test]
fn a_load_comes_after_the_step_that_used_its_block() {
    let Some(mut world) = World::new() else { return };
    world.step(1, 2);
    world.load(2, 9);
    assert_eq!(world.store(2), 9);
}

#[test]
fn a_load_comes_after_the_store_of_what_its_block_held() {
    let Some(world) = World::new() else { return };
    world.load(1, 7);
    assert_eq!(world.store(1), 7);
    world.load(1, 9);
    assert_eq!(world.store(1), 9);
}

#[test]
fn a_store_comes_after_the_step_that_filled_its_block() {
    let Some(mut world) = World::new() else { return };
    world.load(1, 7);
    world.step(1, 2);
    assert_eq!(world.store(2), 7);
}

#[test]
fn a_store_comes_after_the_load_that_filled_its_block() {
    let Some(world) = World::new() else { return };
    world.load(1, 7);
    assert_eq!(world.store(1), 7);
}

#[test]
fn a_step_comes_after_the_load_of_what_it_reads() {
    let Some(mut world) = World::new() else { return };
    world.load(1, 7);
    world.step(1, 2);
    world.step(2, 3);
    assert_eq!(world.store(3), 7);
}

#[test]
fn a_step_comes_after_the_store_of_what_it_overwrites() {
    let Some(mut world) = World::new() else { return };
    world.load(2, 9);
    assert_eq!(world.store(2), 9);
    world.step(1, 2);
    assert_eq!(world.store(2), 0);
}

/// The driver waits by itself where memory is not pinned.
#[test]
fn a_store_has_arrived_in_pinned_memory_when_it_returns() {
    let Some(world) = World::new() else { return };
    let (pages, mut bytes) = (world.pages(), vec![0_u8; PAGE]);
    let _pin = pages.pin(bytes.as_mut_ptr(), PAGE).unwrap();
    // A copy that is not waited for may be there by chance, not each time.
    for tag in 1..=12 {
        world.load(1, tag);
        pages.store(&mut [(1, &mut bytes)]).unwrap();
        assert!(bytes.iter().all(|byte| *byte == tag), "{tag}");
    }
}

#[test]
fn a_pinned_buffer_is_not_written_before_its_copy_has_read_it() {
    let Some(World { cuda, .. }) = World::new() else { return };
    let mut pinned = Pinned::take(&cuda.device, PAGE).unwrap();
    let targets = [1, 2].map(|tag| {
        let target = DeviceMemory::take(&cuda.device, PAGE).unwrap();
        pinned.bytes().unwrap().fill(tag);
        pinned.send(&cuda.stream, &target, PAGE).unwrap();
        (target, tag)
    });
    for (target, tag) in targets {
        let mut bytes = [0; PAGE];
        target.read(&cuda.stream, 0, &mut bytes).unwrap();
        assert_eq!(bytes, [tag; PAGE]);
    }
}

#[test]
fn pinned_memory_outlives_the_copies_that_use_it() {
    let Some(World { cuda, .. }) = World::new() else { return };
    let target = DeviceMemory::take(&cuda.device, PAGE).unwrap();
    let mut pinned = Pinned::take(&cuda.device, PAGE).unwrap();
    pinned.bytes().unwrap().fill(5);
    pinned.send(&cuda.stream, &target, PAGE).unwrap();
    drop(pinned);
    let mut bytes = [0; PAGE];
    target.read(&cuda.stream, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [5; PAGE]);
}

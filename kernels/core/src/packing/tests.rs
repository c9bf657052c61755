//! Pages there and back, where each number lies by its backend's own description.

use super::*;
use crate::testing::Random;
use half::{bf16, f16};

const BLOCK_SIZE: usize = 32;
const RUN: usize = 16;

/// A number of a page: of which layer, K (0) or V (1), head, token and column.
#[derive(Clone, Copy, Debug)]
struct At {
    layer: usize,
    which: usize,
    head: usize,
    token: usize,
    column: usize,
}

/// A page's shape, and how its numbers are kept.
#[derive(Clone, Copy, Debug)]
struct Pages {
    kv: &'static str,
    layers: usize,
    heads: usize,
    dim: usize,
}

impl Pages {
    fn layout(&self) -> String {
        format!("{} {BLOCK_SIZE} Full:0:{}x{}x{}", self.kv, self.layers, self.heads, self.dim)
    }

    fn all(&self) -> Vec<At> {
        let mut all = Vec::new();
        for layer in 0..self.layers {
            for (which, head) in (0..2).flat_map(|which| (0..self.heads).map(move |head| (which, head))) {
                for token in 0..BLOCK_SIZE {
                    all.extend((0..self.dim).map(|column| At { layer, which, head, token, column }));
                }
            }
        }
        all
    }

    /// Bytes to a number, and to its scale if it has one.
    fn place(&self, at: At) -> (usize, Option<usize>) {
        let At { layer, which, head, token, column } = at;
        let columns = self.dim.next_multiple_of(RUN);
        if self.kv == "cuda/f16" {
            let tile = (layer * 2 + which) * self.heads + head;
            return (2 * ((tile * BLOCK_SIZE + token) * self.dim + column), None);
        }
        let scales = if self.kv == "cpu/q16" { 4 * RUN } else { 0 };
        let (keys, values) = (2 * RUN * self.dim, 2 * RUN * columns);
        let run = (layer * self.heads + head) * (BLOCK_SIZE / RUN) + token / RUN;
        let start = run * (keys + values + 2 * scales);
        let (t, pairs) = (token % RUN, self.kv != "cpu/f16");
        let number = match (which, pairs) {
            (0, false) => column * RUN + t,
            (0, true) => (column / 2 * RUN + t) * 2 + column % 2,
            (_, false) => t * columns + column,
            (_, true) => (t / 2 * columns + column) * 2 + t % 2,
        };
        let part = start + which * (keys + scales);
        let scale = part + if which == 0 { keys } else { values } + 4 * t;
        (part + 2 * number, (scales > 0).then_some(scale))
    }

    fn read(&self, page: &[u8], at: At) -> f32 {
        let (number, scale) = self.place(at);
        let bits = u16::from_le_bytes([page[number], page[number + 1]]);
        match self.kv {
            "cpu/bf16" => bf16::from_bits(bits).to_f32(),
            "cpu/q16" => f32::from(bits as i16) * scale_at(page, scale.unwrap()),
            _ => f16::from_bits(bits).to_f32(),
        }
    }

    /// Vectors of very different sizes, and garbage where there are no numbers.
    fn page(&self, random: &mut Random, page_bytes: usize) -> Vec<u8> {
        let mut page: Vec<u8> = (0..page_bytes).map(|_| random.next() as u8).collect();
        for at in self.all() {
            let size = f32::powi(2.0, (at.token % 9) as i32 - 4) * (1 + at.which + at.head) as f32;
            let (number, scale) = self.place(at);
            let bits = match self.kv {
                "cpu/bf16" => bf16::from_f32(random.normal() * size).to_bits(),
                "cpu/q16" => (random.normal() * 1500.0) as i16 as u16,
                _ => f16::from_f32(random.normal() * size).to_bits(),
            };
            page[number..number + 2].copy_from_slice(&bits.to_le_bytes());
            if let Some(scale) = scale {
                page[scale..scale + 4].copy_from_slice(&(size / 1000.0).to_le_bytes());
            }
        }
        page
    }
}

fn scale_at(page: &[u8], at: usize) -> f32 {
    f32::from_le_bytes(page[at..at + 4].try_into().unwrap())
}

const KINDS: [&str; 4] = ["cpu/q16", "cpu/f16", "cpu/bf16", "cuda/f16"];

fn shapes() -> impl Iterator<Item = Pages> {
    let shape =
        |kv| [(2, 3, 64), (1, 2, 8), (1, 1, 72)].map(|(layers, heads, dim)| Pages { kv, layers, heads, dim });
    KINDS.into_iter().flat_map(shape)
}

fn there_and_back(packing: &Packing, group: usize, page: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut packed, mut back) = (vec![1; packing.packed_bytes()], vec![1; page.len()]);
    packing.pack(group, page, &mut packed).unwrap();
    packing.unpack(group, &packed, &mut back).unwrap();
    (packed, back)
}

#[test]
fn numbers_come_back_within_half_a_step_of_their_own_vector() {
    let mut random = Random(5);
    for pages in shapes() {
        let bytes = Packing::of(&pages.layout(), usize::MAX).unwrap().groups[0].bytes() + 64;
        let packing = Packing::of(&pages.layout(), bytes).unwrap();
        let page = pages.page(&mut random, bytes);
        let (packed, back) = there_and_back(&packing, 0, &page);
        for vector in pages.all().chunks(pages.dim) {
            let most = vector.iter().map(|&at| pages.read(&page, at).abs()).fold(0.0, f32::max);
            for &at in vector {
                let (was, is) = (pages.read(&page, at), pages.read(&back, at));
                // Half a step, and what the element's own rounding does to it.
                assert!(
                    (was - is).abs() <= most * (0.5 / 127.0 + 1.0 / 250.0),
                    "{pages:?} {at:?}: {was} is {is}"
                );
            }
        }
        let again = there_and_back(&packing, 0, &back);
        if pages.kv == "cpu/q16" {
            assert!(again == (packed, back), "{pages:?}: packing again changes something");
        }
    }
}

#[test]
fn packed_pages_are_half_as_large_and_end_where_direct_io_can_reach() {
    for kv in KINDS {
        let pages = Pages { kv, layers: 30, heads: 3, dim: 64 };
        let bytes = Packing::of(&pages.layout(), usize::MAX).unwrap().groups[0].bytes();
        let packing = Packing::of(&pages.layout(), bytes).unwrap();
        let share = packing.packed_bytes() as f64 / bytes as f64;
        assert!(share < 0.55 && packing.packed_bytes().is_multiple_of(4096), "{kv}: {share}");
    }
}

#[test]
fn groups_have_shapes_of_their_own() {
    let layout = "cpu/f16 32 Full:0:1x1x64 Window:128:2x2x8";
    let packing = Packing::of(layout, 16_384).unwrap();
    let mut random = Random(6);
    for (group, layers, heads, dim) in [(0, 1, 1, 64), (1, 2, 2, 8)] {
        let pages = Pages { kv: "cpu/f16", layers, heads, dim };
        let page = pages.page(&mut random, 16_384);
        let (_, back) = there_and_back(&packing, group, &page);
        for at in pages.all() {
            assert!((pages.read(&page, at) - pages.read(&back, at)).abs() < 0.1 * 64.0, "{at:?}");
        }
    }
    let (mut packed, mut page) = (vec![0; packing.packed_bytes()], vec![0; 16_384]);
    assert_eq!(packing.pack(2, &page, &mut packed), Err(Unpackable::Group(2)));
    assert_eq!(packing.unpack(2, &packed, &mut page), Err(Unpackable::Group(2)));
}

#[test]
fn zeros_stay_zeros_and_what_is_not_finite_is_refused() {
    for pages in shapes() {
        let bytes = Packing::of(&pages.layout(), usize::MAX).unwrap().groups[0].bytes();
        let packing = Packing::of(&pages.layout(), bytes).unwrap();
        assert!(there_and_back(&packing, 0, &vec![0; bytes]).1.iter().all(|&byte| byte == 0), "{pages:?}");
        let last = *pages.all().last().unwrap();
        let mut page = vec![0; bytes];
        match pages.place(last) {
            (_, Some(scale)) => page[scale..scale + 4].copy_from_slice(&f32::NAN.to_le_bytes()),
            (number, None) => page[number..number + 2].copy_from_slice(&[0xff, 0x7f]),
        }
        let mut packed = vec![0; packing.packed_bytes()];
        assert_eq!(packing.pack(0, &page, &mut packed), Err(Unpackable::NotFinite), "{pages:?}");
    }
}

#[test]
fn layouts_of_other_numbers_are_refused_by_name() {
    for layout in
        ["cpu/q8 16 Full:0:1x1x64", "reference/f32 16 Full:0:1x1x64", "witness/ 16 Full:0:1x1x1", ""]
    {
        let failure = Packing::of(layout, 1 << 20).unwrap_err();
        let kv = layout.split(' ').next().unwrap();
        assert!(failure.message.ends_with(&format!("this one's is {kv:?}")), "{failure}");
    }
    for layout in ["cpu/f16 16 Full:0:1x64", "cpu/f16 16 Full:0:1x1x64x2", "cpu/f16 x Full:0:1x1x64"] {
        assert!(Packing::of(layout, 1 << 20).is_err(), "{layout}");
    }
    assert!(Packing::of("cpu/f16 16 Full:0:1x1x64", 100).unwrap_err().message.starts_with("pages of 100"));
}

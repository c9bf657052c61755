//! What an instruction set has of kernels, and what they want: one place for what depends on the architecture.

use super::activations::Form;
use super::format::Format;
use super::kernel::Kernel;
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::portable;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::simd::Isa;

/// Most activation rows of a group.
pub(super) fn most_rows(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => avx512::MOST_ROWS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => avx2::MOST_ROWS,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => neon::MOST_ROWS,
        Isa::Portable => portable::MOST_ROWS,
    }
}

/// Rows of half a panel.
pub(super) fn lanes(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => avx512::LANES,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => avx2::LANES,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => neon::LANES,
        Isa::Portable => portable::LANES,
    }
}

/// What 8-bit weights are moved by (exclusive or).
pub(super) fn bias(isa: Isa) -> u8 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => avx512::BIAS,
        _ => 0,
    }
}

/// Form of the activations.
pub(super) fn form(isa: Isa, format: Format) -> Form {
    match (isa, format) {
        (_, Format::F32 | Format::F16 | Format::BF16) => Form::Floats,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2(_), Format::Quantised(at)) if super::format::PACKINGS[at].bits == 8 => Form::Words,
        (_, Format::Quantised(_)) => Form::Bytes,
    }
}

/// Bytes by which a group of one row asks ahead of where it reads, where that pays.
pub(super) fn near(isa: Isa, format: Format) -> Option<usize> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => format.is_quantised().then_some(avx2::NEAR),
        _ => format.near(),
    }
}

/// `None`: [`portable::run`].
pub(super) fn kernel(isa: Isa, format: Format) -> Option<Kernel> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => Some(avx512::kernel(format)),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => Some(avx2::kernel(format)),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => Some(neon::kernel(format)),
        Isa::Portable => None,
    }
}

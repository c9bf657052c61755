//! What the processor can do, for `doctor` and for choosing an instruction set.

/// Model and features of the processor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of features")]
#[cfg_attr(feature = "napi", napi_derive::napi(object))]
pub struct CpuFeatures {
    /// Name of the model as the system gives it; empty if it does not.
    pub model: String,
    /// AVX2.
    pub avx2: bool,
    /// Fused multiply-add.
    pub fma: bool,
    /// Half-precision conversion.
    #[cfg_attr(feature = "napi", napi(js_name = "f16c"))]
    pub f16c: bool,
    /// AVX-512 F, BW, DQ and VL.
    pub avx512: bool,
    /// AVX-512 VNNI.
    pub avx512_vnni: bool,
    /// AVX-512 BF16.
    pub avx512_bf16: bool,
    /// NEON.
    pub neon: bool,
    /// NEON's dot products of bytes.
    pub neon_dotprod: bool,
    /// Processors this process may use.
    pub cores: u32,
    /// The instruction set that `auto` picks.
    pub isa: String,
}

/// Asks the processor.
pub fn detect() -> CpuFeatures {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u32;
    let isa =
        crate::simd::Isa::detect("auto").map_or_else(|failure| failure.message, |isa| isa.name().to_owned());
    let mut features = CpuFeatures {
        model: std::fs::read_to_string("/proc/cpuinfo").map(|text| model_name(&text)).unwrap_or_default(),
        avx2: false,
        fma: false,
        f16c: false,
        avx512: false,
        avx512_vnni: false,
        avx512_bf16: false,
        neon: false,
        neon_dotprod: false,
        cores,
        isa,
    };
    #[cfg(target_arch = "x86_64")]
    {
        features.avx2 = is_x86_feature_detected!("avx2");
        features.fma = is_x86_feature_detected!("fma");
        features.f16c = is_x86_feature_detected!("f16c");
        features.avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        features.avx512_vnni = is_x86_feature_detected!("avx512vnni");
        features.avx512_bf16 = is_x86_feature_detected!("avx512bf16");
    }
    #[cfg(target_arch = "aarch64")]
    {
        features.neon = std::arch::is_aarch64_feature_detected!("neon");
        features.neon_dotprod = std::arch::is_aarch64_feature_detected!("dotprod");
    }
    features
}

fn model_name(cpuinfo: &str) -> String {
    let value =
        |line: &str| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned());
    cpuinfo.lines().find_map(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_model_name() {
        assert_eq!(model_name("processor\t: 0\nmodel name\t: Chip 3000\nmodel name\t: other\n"), "Chip 3000");
        assert_eq!(model_name(""), "");
    }

    #[test]
    fn picks_an_instruction_set_for_auto() {
        let features = detect();
        assert!(["portable", "avx2", "avx512", "neon"].contains(&features.isa.as_str()), "{}", features.isa);
        assert!(features.cores > 0);
    }
}

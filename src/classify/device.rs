//! Which device computes, by which means, and in which precision.
//!
//! Knows nothing of models.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result, Tensor, bail};

use signalbox_policy::{DeviceChoice, Precision};

#[derive(Debug, Clone)]
pub(super) enum ComputeDevice {
    /// The CPU, by our own kernels.
    Kernels(RowPrecision),
    /// Any device, by tensor operations.
    Tensors(TensorEngine),
}

/// What the rows of products with int8 weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowPrecision {
    /// As they come.
    F32,
    /// Rounded to eight bits where the processor multiplies those by itself, which is several times as fast.
    Int8,
}

#[derive(Debug, Clone)]
pub(super) struct TensorEngine {
    pub(super) device: Device,
    /// The precision of weights and states.
    pub(super) dtype: DType,
    /// Whether flash attention was built in and works here.
    has_flash: bool,
    /// Held for the time of a forward.
    in_use: Arc<Mutex<()>>,
}

/// The widest head that flash attention has kernels for.
const MAX_FLASH_HEAD_SIZE: usize = 256;

/// A compute capability: major and minor version.
type Capability = (i32, i32);

impl ComputeDevice {
    /// Opens the device; falls back to the CPU, loudly where a GPU was asked for by name.
    pub(super) fn open(choice: DeviceChoice, precision: Precision) -> Self {
        let kernels = Self::Kernels(match precision {
            Precision::F32 => RowPrecision::F32,
            Precision::Auto | Precision::F16 | Precision::Bf16 => RowPrecision::Int8,
        });
        if choice == DeviceChoice::Cpu {
            return kernels;
        }
        match TensorEngine::cuda(precision) {
            Ok(engine) => {
                tracing::info!(device = %engine.name(), dtype = engine.dtype.as_str(), "models run on a GPU");
                return Self::Tensors(engine);
            }
            Err(error) => {
                // candle appends a backtrace where they are on.
                let error = error.to_string();
                let reason = error.lines().next().unwrap_or_default();
                if choice == DeviceChoice::Cuda {
                    tracing::warn!(
                        reason,
                        "device: cuda is asked for and there is none: MODELS RUN ON THE CPU, MUCH SLOWER"
                    );
                } else {
                    tracing::info!(reason, "there is no GPU, models run on the CPU");
                }
            }
        }
        kernels
    }

    /// Returns the device as tensors name it.
    pub(super) fn candle(&self) -> Device {
        match self {
            Self::Kernels(_) => Device::Cpu,
            Self::Tensors(engine) => engine.device.clone(),
        }
    }

    pub(super) fn dtype(&self) -> DType {
        match self {
            Self::Kernels(_) => DType::F32,
            Self::Tensors(engine) => engine.dtype,
        }
    }

    /// Returns how many forwards may run at once: more are not quicker than one after the other.
    pub(super) fn max_concurrent_forwards(&self) -> usize {
        match self {
            Self::Kernels(_) => usize::MAX,
            // The second is prepared on the host while the device computes the first.
            Self::Tensors(_) => 2,
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Kernels(_) => "cpu".to_owned(),
            Self::Tensors(engine) => engine.name(),
        }
    }

    /// Waits for the device, which computes one forward at a time; none on the CPU, where every thread computes its own.
    pub(super) fn acquire(&self) -> Option<MutexGuard<'_, ()>> {
        match self {
            Self::Kernels(_) => None,
            Self::Tensors(engine) => Some(engine.in_use.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

impl TensorEngine {
    pub(super) fn new(device: Device, dtype: DType) -> Self {
        Self { device, dtype, has_flash: false, in_use: Arc::default() }
    }

    /// Opens the first CUDA device, and has it compute something.
    fn cuda(precision: Precision) -> Result<Self> {
        if !candle_core::utils::cuda_is_available() {
            bail!("this binary was built without the cuda feature");
        }
        // Every thread has its own default stream, which spares candle the events that order explicit streams: the
        // lock around each forward orders these.
        let device = Device::new_cuda(0)?;
        let capability = capability(&device)?;
        let mut engine = Self::new(device, dtype_on(precision, capability));
        if let Some(named) = named_dtype(precision).filter(|named| *named != engine.dtype) {
            tracing::warn!(
                precision = named.as_str(),
                capability = ?capability,
                dtype = engine.dtype.as_str(),
                "the GPU does not compute in the precision that is asked for"
            );
        }
        engine.self_test()?;
        engine.has_flash = flash_works(&engine, capability);
        Ok(engine)
    }

    /// Says whether it has a kernel for attention without padding over heads of this width.
    pub(super) fn has_flash(&self, size: usize) -> bool {
        self.has_flash && size.is_multiple_of(8) && size <= MAX_FLASH_HEAD_SIZE
    }

    /// Fails where the device does not compute: the kernels may have been built for another capability.
    fn self_test(&self) -> Result<()> {
        const SIDE: usize = 8;
        let ones = Tensor::ones((SIDE, SIDE), self.dtype, &self.device)?;
        let sums = ones.matmul(&ones)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        if sums.iter().flatten().any(|sum| (sum - SIDE as f32).abs() > 0.5) {
            bail!("the device computes wrongly: built for another one?");
        }
        Ok(())
    }

    fn name(&self) -> String {
        match self.device.location() {
            candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        }
    }
}

/// Returns the best of a precision that a device of this capability has.
fn dtype_on(precision: Precision, capability: Capability) -> DType {
    match precision {
        Precision::F16 if capability >= (5, 3) => DType::F16,
        Precision::Auto | Precision::Bf16 if capability >= (8, 0) => DType::BF16,
        Precision::Auto | Precision::Bf16 if capability >= (7, 0) => DType::F16,
        Precision::Auto | Precision::F32 | Precision::F16 | Precision::Bf16 => DType::F32,
    }
}

/// Returns the configured type, none where it is to be chosen.
fn named_dtype(precision: Precision) -> Option<DType> {
    match precision {
        Precision::Auto => None,
        Precision::F32 => Some(DType::F32),
        Precision::F16 => Some(DType::F16),
        Precision::Bf16 => Some(DType::BF16),
    }
}

#[cfg(feature = "cuda")]
fn capability(device: &Device) -> Result<Capability> {
    let stream = device.as_cuda_device()?.cuda_stream();
    stream.context().compute_capability().map_err(candle_core::Error::wrap)
}

#[cfg(not(feature = "cuda"))]
fn capability(_: &Device) -> Result<Capability> {
    bail!("this binary was built without the cuda feature")
}

/// Says whether flash attention was built in, and for this device's capability.
#[cfg(feature = "flash-attn")]
fn flash_works(engine: &TensorEngine, capability: Capability) -> bool {
    let TensorEngine { device, dtype, .. } = engine;
    if capability < (8, 0) || *dtype == DType::F32 {
        return false;
    }
    // Where all scores are equal, the result is the values' mean.
    let mean = || {
        let none = Tensor::zeros((2, 1, 64), *dtype, device)?;
        let values = Tensor::new(&[1f32, 3.0], device)?.reshape((2, 1, 1))?.repeat((1, 1, 64))?;
        let (values, starts) = (values.to_dtype(*dtype)?, Tensor::new(&[0u32, 2], device)?);
        candle_flash_attn::flash_attn_varlen(&none, &none, &values, &starts, &starts, 2, 2, 1.0, false)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()
    };
    let works = mean().is_ok_and(|mean| mean.iter().all(|x| (x - 2.0).abs() < 0.1));
    if !works {
        tracing::warn!("flash attention does not work on this device: texts are padded");
    }
    works
}

#[cfg(not(feature = "flash-attn"))]
fn flash_works(_: &TensorEngine, _: Capability) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURING: Capability = (7, 5);
    const HOPPER: Capability = (9, 0);

    #[test]
    fn the_precision_is_the_configured_one_as_far_as_the_device_has_it() {
        let on = |capability| {
            [Precision::Auto, Precision::F32, Precision::F16, Precision::Bf16]
                .map(|named| dtype_on(named, capability))
        };
        assert_eq!(on(HOPPER), [DType::BF16, DType::F32, DType::F16, DType::BF16]);
        assert_eq!(on(TURING), [DType::F16, DType::F32, DType::F16, DType::F16]);
        assert_eq!(on((6, 1)), [DType::F32, DType::F32, DType::F16, DType::F32]);
        assert_eq!(on((5, 0)), [DType::F32; 4]);
    }

    #[test]
    fn a_device_is_tested_in_every_precision() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            TensorEngine::new(Device::Cpu, dtype).self_test().unwrap();
        }
    }

    #[test]
    fn the_cpu_stands_in_for_a_device_that_is_missing() {
        if !candle_core::utils::cuda_is_available() {
            for choice in [DeviceChoice::Cpu, DeviceChoice::Cuda, DeviceChoice::Auto] {
                let device = ComputeDevice::open(choice, Precision::Bf16);
                assert!(matches!(device, ComputeDevice::Kernels(RowPrecision::Int8)), "{choice:?}");
                assert_eq!((device.name().as_str(), device.dtype()), ("cpu", DType::F32));
            }
        }
    }
}

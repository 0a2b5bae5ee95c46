//! Where the numbers are computed: which device a policy means, and in which precision.
//!
//! Knows nothing of models.

use candle_core::{DType, Device};

use super::spec::DeviceChoice;

impl DeviceChoice {
    /// Opens the device; falls back to the processor, loudly where a GPU was asked for by name.
    pub(super) fn open(self) -> Device {
        if self == Self::Cpu {
            return Device::Cpu;
        }
        let built_in = candle_core::utils::cuda_is_available();
        let reason = match built_in.then(|| Device::new_cuda(0)) {
            Some(Ok(device)) => {
                tracing::info!(device = %name(&device), dtype = dtype_name(&device), "models run on a GPU");
                return device;
            }
            Some(Err(error)) => error.to_string(),
            None => "this binary was built without the cuda feature".to_owned(),
        };
        if self == Self::Cuda {
            tracing::warn!(
                reason,
                "device: cuda was asked for but there is none: MODELS RUN ON THE CPU, MUCH SLOWER"
            );
        } else {
            tracing::info!(reason, "no GPU, models run on the CPU");
        }
        Device::Cpu
    }
}

/// The precision of weights and states on a device.
pub(super) fn dtype(device: &Device) -> DType {
    if !device.is_cuda() {
        DType::F32
    } else if device.supports_bf16() {
        DType::BF16
    } else {
        DType::F16
    }
}

/// The precision in one word.
pub(super) fn dtype_name(device: &Device) -> &'static str {
    dtype(device).as_str()
}

/// The device in one word.
pub(super) fn name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

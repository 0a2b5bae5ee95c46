//! Where the numbers are computed, by what, and in which precision.
//!
//! Knows nothing of models.

use candle_core::{DType, Device};

use super::spec::DeviceChoice;

/// Where and by what states are computed.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// On the CPU, by kernels of our own.
    Kernels,
    /// By tensor operations, on any device.
    Tensors(Device),
}

impl DeviceChoice {
    /// Opens the device; falls back to the CPU, loudly where a GPU was asked for by name.
    pub(super) fn open(self) -> Place {
        if self == Self::Cpu {
            return Place::Kernels;
        }
        let reason = match candle_core::utils::cuda_is_available().then(|| Device::new_cuda(0)) {
            Some(Ok(device)) => {
                let place = Place::Tensors(device);
                tracing::info!(device = %place.name(), dtype = place.precision().as_str(), "models run on a GPU");
                return place;
            }
            // A backtrace may follow.
            Some(Err(error)) => error.to_string().lines().next().unwrap_or_default().to_owned(),
            None => "this binary was built without the cuda feature".to_owned(),
        };
        if self == Self::Cuda {
            tracing::warn!(
                reason,
                "device: cuda is asked for and there is none: MODELS RUN ON THE CPU, MUCH SLOWER"
            );
        } else {
            tracing::info!(reason, "there is no GPU, models run on the CPU");
        }
        Place::Kernels
    }
}

impl Place {
    pub(super) fn device(&self) -> &Device {
        match self {
            Self::Kernels => &Device::Cpu,
            Self::Tensors(device) => device,
        }
    }

    /// Returns the precision of weights and states.
    pub(super) fn precision(&self) -> DType {
        precision(self.device())
    }

    /// Returns the device in one word.
    pub(super) fn name(&self) -> String {
        match self.device().location() {
            candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
            candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        }
    }
}

/// Returns the precision of weights and states on a device.
pub(super) fn precision(device: &Device) -> DType {
    device.bf16_default_to_f32()
}

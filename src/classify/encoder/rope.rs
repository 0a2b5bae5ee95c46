//! The angles of rotary positions: plain, scaled linearly, or by YaRN (arXiv 2309.00071), as `transformers` has them.
//!
//! Knows nothing of attention.

use serde::Deserialize;

/// What `rope_scaling`, or an entry of `rope_parameters`, says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct RopeConfig {
    #[serde(default, alias = "type")]
    rope_type: Option<String>,
    #[serde(default)]
    pub(crate) rope_theta: Option<f64>,
    factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    attention_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
}

impl RopeConfig {
    /// Fills in the defaults of the base and of the trained length, and checks the rest.
    pub(crate) fn complete(mut self, theta: f64, positions: usize) -> Result<Self, String> {
        self.rope_theta.get_or_insert(theta);
        self.original_max_position_embeddings.get_or_insert(positions as f64);
        match self.kind() {
            "default" => Ok(self),
            "linear" | "yarn" if self.factor.is_some_and(|factor| factor >= 1.0) => Ok(self),
            "linear" | "yarn" => Err("rope scaling without a factor of at least 1".to_owned()),
            other => Err(format!("rope scaling `{other}`; default, linear and yarn are known")),
        }
    }

    /// Takes from `other` what is not set here.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            rope_type: self.rope_type.or(other.rope_type),
            rope_theta: self.rope_theta.or(other.rope_theta),
            factor: self.factor.or(other.factor),
            original_max_position_embeddings: self
                .original_max_position_embeddings
                .or(other.original_max_position_embeddings),
            attention_factor: self.attention_factor.or(other.attention_factor),
            beta_fast: self.beta_fast.or(other.beta_fast),
            beta_slow: self.beta_slow.or(other.beta_slow),
            mscale: self.mscale.or(other.mscale),
            mscale_all_dim: self.mscale_all_dim.or(other.mscale_all_dim),
        }
    }

    fn kind(&self) -> &str {
        self.rope_type.as_deref().unwrap_or("default")
    }

    fn factor(&self) -> f64 {
        self.factor.unwrap_or(1.0)
    }

    /// Returns what cosines and sines are multiplied by.
    pub(crate) fn scale(&self) -> f32 {
        if self.kind() != "yarn" {
            return 1.0;
        }
        let magnitude =
            |mscale: f64| if self.factor() <= 1.0 { 1.0 } else { 0.1 * mscale * self.factor().ln() + 1.0 };
        let of_both = match (self.mscale, self.mscale_all_dim) {
            (Some(one), Some(all)) if one != 0.0 && all != 0.0 => magnitude(one) / magnitude(all),
            _ => magnitude(1.0),
        };
        self.attention_factor.unwrap_or(of_both) as f32
    }

    /// Returns the angle that one position adds, for each pair of a head `size` wide.
    pub(crate) fn inverse_frequencies(&self, size: usize) -> Vec<f32> {
        let theta = self.rope_theta.unwrap_or(10_000.0);
        let plain = (0..size / 2).map(|pair| 1.0 / theta.powf((2 * pair) as f64 / size as f64));
        match self.kind() {
            "linear" => plain.map(|step| (step / self.factor()) as f32).collect(),
            "yarn" => {
                let (low, high) = self.ramp(size as f64, theta);
                let mixed = plain.enumerate().map(|(pair, step)| {
                    let interpolated = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    (step / self.factor() * interpolated + step * (1.0 - interpolated)) as f32
                });
                mixed.collect()
            }
            _ => plain.map(|step| step as f32).collect(),
        }
    }

    /// Returns the pairs between which YaRN goes over from extrapolation to interpolation.
    fn ramp(&self, size: f64, theta: f64) -> (f64, f64) {
        let trained = self.original_max_position_embeddings.unwrap_or(1.0);
        let pair =
            |turns: f64| size * (trained / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * theta.ln());
        let or = |value: Option<f64>, default: f64| value.filter(|value| *value != 0.0).unwrap_or(default);
        let low = pair(or(self.beta_fast, 32.0)).floor().max(0.0);
        let high = pair(or(self.beta_slow, 1.0)).ceil().min(size - 1.0);
        if (high - low).abs() < f64::EPSILON { (low, high + 0.001) } else { (low, high) }
    }
}

//! Which vectors are used, as found when the program runs.

#[cfg(test)]
pub(super) use forced::dispatch;

use pulp::{Arch, Scalar128b, Simd, WithSimd};

/// Runs `op` with the widest vectors that the machine has.
#[cfg(not(test))]
pub(super) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    native(op)
}

fn native<Op: WithSimd>(op: Op) -> Op::Output {
    match Arch::new() {
        // Even the oldest machines add four numbers at once; the compiler sees to it.
        Arch::Scalar => Simd::vectorize(Scalar128b, op),
        arch => arch.dispatch(op),
    }
}

/// Says whether there are registers for a tile of twelve rows rather than six.
pub(super) const fn is_tall<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32 || S::F32_LANES >= 16
}

/// Vectors that the machine may not have, for tests on one that has others.
#[cfg(test)]
pub(super) mod forced {
    use std::cell::Cell;

    use pulp::{Scalar512b, Simd, WithSimd};

    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Width {
        Native,
        Four,
        Sixteen,
    }

    thread_local! {
        static WIDTH: Cell<Width> = const { Cell::new(Width::Native) };
    }

    /// Makes this thread use vectors of that width from now on.
    pub(crate) fn set(width: Width) {
        WIDTH.set(width);
    }

    pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
        match WIDTH.get() {
            Width::Native => super::native(op),
            Width::Four => Simd::vectorize(pulp::Scalar128b, op),
            Width::Sixteen => Simd::vectorize(Scalar512b, op),
        }
    }
}

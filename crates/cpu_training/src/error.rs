//! What can go wrong before anything is computed.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, TrainingError>;

/// Every error of a trainer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// The base is not as a model has to be.
    #[error(transparent)]
    Base(#[from] cpu_inference::InferenceError),
    /// The base is a network that has no backward pass here.
    #[error("{feature} {got:?} cannot be trained natively; expected {expected}")]
    Unsupported {
        /// What kind of part it is.
        feature: &'static str,
        /// What the base has.
        got: String,
        /// What could be trained.
        expected: &'static str,
    },
    /// What is to be trained does not belong to the base.
    #[error("{name:?} cannot be trained: {detail}")]
    Parameter {
        /// Its name.
        name: String,
        /// Why not.
        detail: String,
    },
    /// A batch is not as it has to be.
    #[error("batch: {detail}")]
    Batch {
        /// What is wrong with it.
        detail: String,
    },
    /// A setting is out of range.
    #[error("{name} is {got}, expected {expected}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it is.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The gradients are no numbers any more.
    #[error(
        "gradients are not finite; expected numbers: lower the learning rate, nothing was changed"
    )]
    Diverged,
}

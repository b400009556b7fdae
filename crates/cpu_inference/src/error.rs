//! What can go wrong between a weight file and a vector.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, InferenceError>;

/// Every error of a forward pass, its weights or its settings.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InferenceError {
    /// The model's description is not JSON of the right form.
    #[error("model description cannot be read: {detail}")]
    ConfigSyntax {
        /// What the parser found.
        detail: String,
    },
    /// A value of the model's description is out of range.
    #[error("model setting {field}: expected {expected}, got {got}")]
    ConfigValue {
        /// Name of the setting.
        field: &'static str,
        /// What would be valid.
        expected: String,
        /// What was found.
        got: String,
    },
    /// No forward pass exists for this architecture.
    #[error("architecture {got:?} is not supported; supported: {supported}")]
    UnsupportedArchitecture {
        /// What the model calls itself.
        got: String,
        /// What could be loaded.
        supported: String,
    },
    /// A setting is known but not implemented.
    #[error("{feature} {got:?} is not supported; supported: {supported}")]
    Unsupported {
        /// What kind of setting it is.
        feature: &'static str,
        /// What the model asks for.
        got: String,
        /// What could be used.
        supported: &'static str,
    },
    /// The weights lack a tensor.
    #[error("weights lack tensor {name:?} of shape {expected:?}")]
    MissingTensor {
        /// Name of the tensor.
        name: String,
        /// Shape it should have.
        expected: Vec<usize>,
    },
    /// A tensor has the wrong shape.
    #[error("tensor {name:?}: expected shape {expected:?}, got {got:?}")]
    TensorShape {
        /// Name of the tensor.
        name: String,
        /// Shape the model needs.
        expected: Vec<usize>,
        /// Shape that is stored.
        got: Vec<usize>,
    },
    /// A tensor's bytes do not fit its description.
    #[error("tensor {name:?}: expected {expected} {what}, got {got}")]
    TensorBytes {
        /// Name of the tensor.
        name: String,
        /// Which of its parts.
        what: &'static str,
        /// Elements its shape needs.
        expected: usize,
        /// Elements that are stored.
        got: usize,
    },
    /// A quantised tensor's parts contradict each other or the kernels cannot read them.
    #[error("tensor {name:?}: {detail}")]
    TensorLayout {
        /// Name of the tensor.
        name: String,
        /// What the kernels found.
        detail: String,
    },
    /// A tensor is quantised where only plain numbers are read.
    #[error("tensor {name:?} is quantised; expected float32, float16 or bfloat16")]
    TensorQuantised {
        /// Name of the tensor.
        name: String,
    },
    /// A token id is not in the vocabulary.
    #[error("token id {id} at position {position} is outside the vocabulary of {vocab_size}")]
    TokenRange {
        /// The id.
        id: i64,
        /// Where it stands in the input.
        position: usize,
        /// Ids must be below this.
        vocab_size: usize,
    },
    /// Offsets do not cut the ids into non-empty sequences.
    #[error("offsets[{index}]: expected {expected}, got {got}")]
    Offsets {
        /// Which offset.
        index: usize,
        /// What it must be.
        expected: String,
        /// What it is.
        got: i64,
    },
    /// A call that needs tokens got none.
    #[error("{operation} needs at least {needed} tokens, got {got}")]
    TooFewTokens {
        /// What was asked for.
        operation: &'static str,
        /// Least number of tokens.
        needed: usize,
        /// Number given.
        got: usize,
    },
    /// More tokens than the model has positions or the session has room for.
    #[error("{got} tokens do not fit {what} of {limit}; shorten the text")]
    Window {
        /// The limit that was passed.
        what: &'static str,
        /// Its size in tokens.
        limit: usize,
        /// Tokens given.
        got: usize,
    },
    /// A pass contradicts itself or its caches.
    #[error("pass: {detail}")]
    Pass {
        /// What was expected and found.
        detail: String,
    },
    /// Two spans of a pass write to the same cache.
    #[error("pass: cache {cache} has two writers; give each text a cache of its own")]
    TwoWriters {
        /// Which cache.
        cache: usize,
    },
    /// A cache was made by a model of other sizes.
    #[error("the cache was made for a model of other sizes; make one with this model")]
    ForeignCache,
    /// The pass that read this text together with others failed in another thread.
    #[error("the pass that read this text failed in another thread; begin the text anew")]
    Lost,
    /// A card does not fit the model, or contradicts itself.
    #[error("card {name:?} {detail}")]
    Card {
        /// The card.
        name: String,
        /// What was expected and found.
        detail: String,
    },
    /// Cards were prepared for another model.
    #[error("the cards were prepared for another model; attach them to this one")]
    ForeignAdapter,
    /// Cards were merged for passes of their own.
    #[error(
        "the cards are merged, for passes whose rows all use them; prepare them unmerged for sessions and mixed passes"
    )]
    MergedAdapter,
    /// A text has begun without the cards it is to be read with.
    #[error("cards are chosen before a text begins; it has {tokens} tokens")]
    AdapterTooLate {
        /// Tokens read so far.
        tokens: usize,
    },
    /// No card in use has a head of this name.
    #[error("no attached card has a head {name:?}; heads: {known:?}")]
    NoHead {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The architecture cannot do what was asked.
    #[error("{operation} needs {needed}; this model is of architecture {architecture:?}")]
    WrongArchitecture {
        /// What was asked for.
        operation: &'static str,
        /// What can do it.
        needed: String,
        /// What the model is.
        architecture: &'static str,
    },
    /// A sampling setting is out of range.
    #[error("sampling setting {setting}: expected {expected}, got {got}")]
    Sampling {
        /// Name of the setting.
        setting: &'static str,
        /// What would be valid.
        expected: &'static str,
        /// What was given.
        got: String,
    },
    /// Not-a-number or infinite values where finite ones are needed.
    #[error("{what} are not finite; the weights or their quantisation are damaged")]
    NotFinite {
        /// Which values.
        what: &'static str,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

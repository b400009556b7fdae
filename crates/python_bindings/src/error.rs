//! Every Rust error becomes the Python class of its kind.

macro_rules! python_errors {
    ($($name:ident),* $(,)?) => {
        $(pyo3::import_exception!(ai_os_diffusion.utils.errors, $name);)*
    };
}

python_errors!(
    IngestError,
    ModelLoadError,
    InferenceError,
    TokenizerError,
    WeightError,
    ShapeError,
    StorageError,
    StoreCorruptedError,
    StoreLockedError,
    DimensionError,
    FilterError,
    SamplingError,
    CardError,
    TrainingError,
);

//! Everything that can be wrong with a weight file or with numbers to be quantised.

use std::path::PathBuf;

/// Errors of this crate. A [`WeightFileError::File`] wraps the others with the file they were found in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightFileError {
    /// Context: the file the inner error was found in.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        problem: Box<WeightFileError>,
    },
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The magic bytes are missing.
    #[error("not a Parquet file: expected the bytes \"PAR1\" at its {place}, got {got:02x?}")]
    Magic {
        /// `start` or `end`.
        place: &'static str,
        /// The bytes found.
        got: Vec<u8>,
    },
    /// The file is shorter than its footer says.
    #[error(
        "truncated: expected at least {expected} bytes, got {got}; copy or convert the model again"
    )]
    Truncated {
        /// Bytes the file must have.
        expected: u64,
        /// Bytes it has.
        got: u64,
    },
    /// Stored and computed checksums differ.
    #[error(
        "{part} is damaged: expected crc32c {expected:08x}, got {got:08x}; copy or convert the model again"
    )]
    Checksum {
        /// The footer, or a tensor by name.
        part: String,
        /// Stored checksum.
        expected: u32,
        /// Computed checksum.
        got: u32,
    },
    /// The Parquet structure cannot be read.
    #[error("unreadable Parquet structure: {0}")]
    Parquet(String),
    /// The table lacks a column or holds it in another type.
    #[error("column {column:?}: expected {expected}, got {got}")]
    Column {
        /// Name of the column.
        column: String,
        /// What the schema asks for.
        expected: &'static str,
        /// What the file holds.
        got: String,
    },
    /// The index in the footer contradicts the file.
    #[error("the tensor index {problem}")]
    Index {
        /// The contradiction.
        problem: String,
    },
    /// A word this version does not know.
    #[error(
        "{subject}: unknown {field} {got:?}, expected one of {expected}; a newer version may read it"
    )]
    Unknown {
        /// Tensor or `file`.
        subject: String,
        /// Name of the field.
        field: &'static str,
        /// The word.
        got: String,
        /// Words known.
        expected: &'static str,
    },
    /// A shape that no array can have.
    #[error("tensor {tensor:?}: shape {shape:?} {problem}")]
    Shape {
        /// Name of the tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<i64>,
        /// Why it is refused.
        problem: &'static str,
    },
    /// A buffer whose length contradicts shape and type.
    #[error("tensor {tensor:?}: {part} of {what}: expected {expected} bytes, got {got}")]
    Length {
        /// Name of the tensor.
        tensor: String,
        /// `data`, `scales` or `zero_points`.
        part: &'static str,
        /// Shape and type that give the expected length.
        what: String,
        /// Bytes that shape and type ask for.
        expected: u64,
        /// Bytes there are.
        got: u64,
    },
    /// A value that lies outside the file or is not aligned.
    #[error(
        "tensor {tensor:?}: {part} at offset {offset}, length {length}: expected 64-byte aligned within the first {limit} bytes"
    )]
    Offset {
        /// Name of the tensor.
        tensor: String,
        /// `data`, `scales` or `zero_points`.
        part: &'static str,
        /// Where it should start.
        offset: i64,
        /// Its length.
        length: u64,
        /// End of the area of values.
        limit: u64,
    },
    /// Two tensors of one name.
    #[error("tensor {tensor:?} occurs twice; expected every name once")]
    Duplicate {
        /// The name.
        tensor: String,
    },
    /// A value too large for one Parquet page.
    #[error(
        "tensor {tensor:?}: {part} has {got} bytes, expected at most 2147483000; store it as float16 or quantised"
    )]
    TooLarge {
        /// Name of the tensor.
        tensor: String,
        /// `data`, `scales` or `zero_points`.
        part: &'static str,
        /// Its length.
        got: u64,
    },
    /// A number that cannot be quantised.
    #[error("row {row}, column {column}: cannot quantise {value}; expected finite values")]
    NotFinite {
        /// Row of the matrix.
        row: usize,
        /// Column of the matrix.
        column: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A group whose levels the precision of its scale cannot hold.
    #[error(
        "row {row}, columns {column}..: a range of {range:e} needs levels beyond float16 (65504) for groups, beyond float32 for whole rows; scale the weights down, or quantise groups per row (group size 0)"
    )]
    Range {
        /// Row of the matrix.
        row: usize,
        /// First column of the group.
        column: usize,
        /// Largest minus smallest value.
        range: f32,
    },
    /// A group size the matrix does not divide by.
    #[error(
        "group size {group_size} does not fit {columns} columns; expected 0 (the whole row) or a multiple of 16 that divides them"
    )]
    GroupSize {
        /// The group size asked for.
        group_size: usize,
        /// Columns of the matrix.
        columns: usize,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl WeightFileError {
    /// Says in which file the error was found.
    #[must_use]
    pub fn in_file(self, path: &std::path::Path) -> Self {
        match self {
            named @ Self::File { .. } => named,
            problem => Self::File {
                path: path.to_owned(),
                problem: Box::new(problem),
            },
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, WeightFileError>;

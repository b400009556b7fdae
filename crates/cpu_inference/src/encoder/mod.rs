//! Bidirectional encoders, one file a family.

mod bert;

pub(crate) use bert::Bert;

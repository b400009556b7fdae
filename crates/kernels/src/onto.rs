//! What a product is added to.

/// What a product of `n` outputs is added to.
#[derive(Debug, Clone, Copy)]
pub enum Onto<'a> {
    /// Nothing: it takes the place of what the output holds.
    Nothing,
    /// `[n]`, the same for every row; it takes the place of what the output holds.
    Bias(&'a [f32]),
    /// What the output holds.
    Out,
}

impl Onto<'_> {
    pub(crate) fn check(self, n: usize) {
        if let Self::Bias(bias) = self {
            assert_eq!(bias.len(), n, "bias is [n]");
        }
    }
}

impl<'a> From<Option<&'a [f32]>> for Onto<'a> {
    fn from(bias: Option<&'a [f32]>) -> Self {
        bias.map_or(Self::Nothing, Self::Bias)
    }
}

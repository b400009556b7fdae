//! Sequences of ids without padding, cut into slices of bounded size.

use std::ops::Range;
use std::sync::Arc;

use crate::adapter::Adapter;
use crate::error::{InferenceError, Result};
use crate::pass::{Pass, Segment};

/// Tokens of a slice: enough to keep the matrix products busy, few enough for their rows to stay cached.
const SLICE_TOKENS: usize = 1024;

/// As above where cards add to what layers gave, which should still be in L2 then.
const CARD_SLICE_TOKENS: usize = 320;

/// Sequences of ids: `s` is `ids[offsets[s] .. offsets[s + 1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a> {
    /// Ids of all sequences, one behind the other.
    pub ids: &'a [i32],
    /// Where each begins, and the last ends.
    pub offsets: &'a [i64],
    /// Token types of an encoder, one an id; none is 0 for all.
    pub types: &'a [u8],
    /// The cards to use.
    pub adapter: Option<&'a Arc<Adapter>>,
}

impl<'a, I: AsRef<[i32]> + ?Sized, O: AsRef<[i64]> + ?Sized> From<(&'a I, &'a O)>
    for Sequences<'a>
{
    /// Ids and offsets, without types or cards.
    fn from((ids, offsets): (&'a I, &'a O)) -> Self {
        Self {
            ids: ids.as_ref(),
            offsets: offsets.as_ref(),
            types: &[],
            adapter: None,
        }
    }
}

/// Checked sequences: `s` is `ids[offsets[s] .. offsets[s + 1]]`.
pub(crate) struct Batch<'a> {
    ids: &'a [i32],
    offsets: Vec<usize>,
    types: &'a [u8],
    adapter: Option<&'a Arc<Adapter>>,
}

impl<'a> Batch<'a> {
    /// Checks that offsets ascend from 0 to the number of ids, that no sequence is empty or longer than
    /// `window`, and that ids lie in the vocabulary.
    pub(crate) fn new(sequences: Sequences<'a>, vocab: usize, window: usize) -> Result<Self> {
        let Sequences {
            ids,
            offsets,
            types,
            adapter,
        } = sequences;
        if !types.is_empty() && types.len() != ids.len() {
            return Err(InferenceError::Pass {
                detail: format!("{} token types for {} ids", types.len(), ids.len()),
            });
        }
        let fault = |index: usize, expected: String| {
            Err(InferenceError::Offsets {
                index,
                expected,
                got: offsets.get(index).copied().unwrap_or(-1),
            })
        };
        if offsets.first() != Some(&0) {
            return fault(0, "0".to_owned());
        }
        for (index, pair) in offsets.windows(2).enumerate() {
            if pair[1] <= pair[0] {
                return fault(
                    index + 1,
                    format!("more than {}: a sequence has at least one token", pair[0]),
                );
            }
            if pair[1] - pair[0] > window as i64 {
                let got = (pair[1] - pair[0]) as usize;
                return Err(InferenceError::Window {
                    what: "the model's window",
                    limit: window,
                    got,
                });
            }
        }
        let last = offsets.len() - 1;
        if offsets[last] != ids.len() as i64 {
            return fault(last, format!("the number of ids, {}", ids.len()));
        }
        check_ids(ids, vocab)?;
        Ok(Self {
            ids,
            offsets: offsets.iter().map(|&offset| offset as usize).collect(),
            types,
            adapter,
        })
    }

    /// Number of sequences.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of tokens.
    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Positions of a sequence in the ids.
    pub(crate) fn span(&self, sequence: usize) -> Range<usize> {
        self.offsets[sequence]..self.offsets[sequence + 1]
    }

    /// The sequences, longest first, in slices of about [`SLICE_TOKENS`] tokens, or [`CARD_SLICE_TOKENS`].
    pub(crate) fn slices(&self) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&sequence| std::cmp::Reverse(self.span(sequence).len()));
        let most = match self.adapter {
            Some(_) => CARD_SLICE_TOKENS,
            None => SLICE_TOKENS,
        };
        let mut slices: Vec<Vec<usize>> = Vec::new();
        let mut room = 0;
        for sequence in order {
            let length = self.span(sequence).len();
            match slices.last_mut() {
                Some(slice) if length <= room => {
                    slice.push(sequence);
                    room -= length;
                }
                _ => {
                    slices.push(vec![sequence]);
                    room = most.saturating_sub(length);
                }
            }
        }
        slices
    }

    /// Makes `pass` compute the sequences of a slice, each by itself, for those tokens that are `wanted` of as many
    /// as a sequence has.
    pub(crate) fn fill(
        &self,
        slice: &[usize],
        causal: bool,
        wanted: impl Fn(usize) -> Range<usize>,
        pass: &mut Pass,
    ) {
        pass.clear();
        for &sequence in slice {
            let ids = self.ids[self.span(sequence)].iter().map(|&id| id as u32);
            let rows = pass.span(ids, 0, &[Segment::Own { causal }]);
            if !self.types.is_empty() {
                pass.set_types(rows.start, &self.types[self.span(sequence)]);
            }
            if let Some(adapter) = self.adapter {
                pass.adapt(adapter);
            }
            let tokens = wanted(rows.len());
            pass.want(rows.start + tokens.start..rows.start + tokens.end);
        }
    }
}

/// Checks that ids lie in the vocabulary.
pub(crate) fn check_ids(ids: &[i32], vocab_size: usize) -> Result<()> {
    let valid = |id: i32| usize::try_from(id).is_ok_and(|id| id < vocab_size);
    match ids.iter().position(|&id| !valid(id)) {
        None => Ok(()),
        Some(position) => Err(InferenceError::TokenRange {
            id: i64::from(ids[position]),
            position,
            vocab_size,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_hold_every_sequence_once_within_the_budget() {
        let lengths: Vec<i64> = (0..500).map(|i| 1 + i * 37 % 300).collect();
        let mut offsets = vec![0];
        offsets.extend(lengths.iter().scan(0, |sum, length| {
            *sum += length;
            Some(*sum)
        }));
        let ids = vec![1; offsets[500] as usize];
        let batch = Batch::new((&ids, &offsets).into(), 2, 300).unwrap();
        let slices = batch.slices();
        let mut seen: Vec<usize> = slices.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        for slice in slices {
            assert!(slice.iter().map(|&s| batch.span(s).len()).sum::<usize>() <= SLICE_TOKENS);
        }
    }

    #[test]
    fn faults_are_named() {
        let fault = |ids: &[i32], offsets: &[i64]| match Batch::new((ids, offsets).into(), 10, 4) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        };
        assert!(fault(&[1], &[]).contains("offsets[0]"));
        assert!(fault(&[1], &[1, 1]).contains("offsets[0]: expected 0"));
        assert!(fault(&[1], &[0, 0, 1]).contains("at least one token"));
        assert!(fault(&[1], &[0, 2]).contains("number of ids, 1"));
        assert!(fault(&[1; 5], &[0, 5]).contains("window of 4"));
        assert!(fault(&[1, 10], &[0, 2]).contains("id 10 at position 1"));
        assert!(fault(&[-1], &[0, 1]).contains("id -1"));
        assert!(fault(&[1], &[0, i64::MAX]).contains("window"));
    }
}

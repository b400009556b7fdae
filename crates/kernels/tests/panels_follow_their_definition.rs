//! What is rounded, packed and dequantised is what the formulas say, on every instruction set.

use half::{bf16, f16};
use kernels::{
    CodeBits, Isa, PanelLanes, PanelLevels, PanelRounding, PlainRows, dequantize_panel,
    pack_panel16, panel_ranges, round_panel, unpack_panel16,
};
use proptest::prelude::*;

/// A panel of up to 16 rows with levels for every group of `width` columns.
#[derive(Debug, Clone)]
struct Panel {
    rows: usize,
    k: usize,
    width: usize,
    bits: CodeBits,
    /// Half precision holds them exactly.
    weights: Vec<f32>,
    scale: Vec<PanelLanes<f32>>,
    offset: Vec<PanelLanes<f32>>,
    zero: Vec<PanelLanes<i32>>,
}

fn panel() -> impl Strategy<Value = Panel> {
    let bits = prop_oneof![
        Just(CodeBits::Int8),
        Just(CodeBits::Int4),
        Just(CodeBits::Int2)
    ];
    let groups = prop_oneof![
        (1_usize..130).prop_map(|k| (k, k)),
        (1_usize..6, prop_oneof![Just(16_usize), Just(32), Just(64)])
            .prop_map(|(groups, width)| (groups * width, width)),
    ];
    (1_usize..17, groups, bits).prop_flat_map(|(rows, (k, width), bits)| {
        let lanes =
            |range| proptest::collection::vec(proptest::array::uniform16(range), k.div_ceil(width));
        let zero = proptest::array::uniform16(0_i32..bits.levels() as i32);
        (
            proptest::collection::vec(
                (-2000_i16..2000).prop_map(|x| f32::from(x) / 64.0),
                rows * k,
            ),
            lanes(-3.0_f32..3.0),
            lanes(-40.0_f32..40.0),
            proptest::collection::vec(zero, k.div_ceil(width)),
        )
            .prop_map(move |(weights, scale, offset, zero)| Panel {
                rows,
                k,
                width,
                bits,
                weights,
                scale,
                offset,
                zero,
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn weights_are_rounded_to_the_nearest_code(panel in panel()) {
        let Panel { rows, k, width, bits, .. } = panel;
        let largest = bits.levels() as i32 - 1;
        let expected: Vec<u8> = (0..rows * k)
            .map(|at| {
                let (row, group) = (at / k, at % k / width);
                let steps = (panel.weights[at] - panel.offset[group][row]) * panel.scale[group][row];
                (steps.round_ties_even() as i32 + panel.zero[group][row]).clamp(0, largest) as u8
            })
            .collect();
        let rounding = PanelRounding {
            inverse: &panel.scale,
            minimum: &panel.offset,
            zero: &panel.zero,
        };
        let halves: Vec<u16> = panel.weights.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
        for isa in Isa::available() {
            for weights in [PlainRows::F32(&panel.weights), PlainRows::F16(&halves)] {
                let mut codes = vec![255; bits.panel_bytes(k)];
                isa.scope(|| round_panel(weights, k, width, rounding, bits, &mut codes));
                prop_assert_eq!(&unpack_panel16(&codes, rows, k, bits), &expected, "{}", isa);
                // Nothing but zeros beside them.
                prop_assert_eq!(&codes, &pack_panel16(&expected, rows, k, bits), "{}", isa);
            }
        }
    }

    #[test]
    fn codes_become_their_levels(panel in panel(), is_minimum: bool) {
        let Panel { rows, k, width, bits, .. } = panel;
        let codes: Vec<u8> = (0..rows * k).map(|at| (at * 37 % bits.levels()) as u8).collect();
        let packed = pack_panel16(&codes, rows, k, bits);
        let levels = PanelLevels { scale: &panel.scale, offset: &panel.offset, is_minimum };
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; rows * k];
            isa.scope(|| dequantize_panel(&packed, k, width, levels, bits, &mut out));
            for (at, got) in out.iter().enumerate() {
                let (row, group) = (at / k, at % k / width);
                let (scale, offset) = (panel.scale[group][row], panel.offset[group][row]);
                let code = f32::from(codes[at]);
                let expected = if is_minimum { scale * code + offset } else { scale * (code - offset) };
                prop_assert_eq!(got.to_bits(), expected.to_bits(), "{} at {}", isa, at);
            }
        }
    }

    #[test]
    fn groups_may_have_any_width(k in 1_usize..100, width in 1_usize..40, rows in 1_usize..17) {
        let groups = k.div_ceil(width);
        let codes: Vec<u8> = (0..rows * k).map(|at| (at * 7 % 16) as u8).collect();
        let packed = pack_panel16(&codes, rows, k, CodeBits::Int4);
        let scale: Vec<_> = (0..groups).map(|group| [group as f32; 16]).collect();
        let offset = vec![[8.0; 16]; groups];
        let levels = PanelLevels { scale: &scale, offset: &offset, is_minimum: false };
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; rows * k];
            isa.scope(|| dequantize_panel(&packed, k, width, levels, CodeBits::Int4, &mut out));
            for (at, &got) in out.iter().enumerate() {
                let expected = (at % k / width) as f32 * (f32::from(codes[at]) - 8.0);
                prop_assert_eq!(got.to_bits(), expected.to_bits(), "{}", isa);
            }
        }
    }

    #[test]
    fn ranges_reach_from_the_least_to_the_greatest(
        panel in panel(), bad in proptest::option::of((0_usize..9999, 0_usize..3)),
    ) {
        let Panel { k, width, weights, .. } = panel;
        let mut rows: Vec<f32> = weights.clone();
        let bad = bad.map(|(at, kind)| {
            let at = at % rows.len();
            rows[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][kind];
            at / k
        });
        let halves: Vec<u16> = rows.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
        let brain: Vec<u16> = rows.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
        for isa in Isa::available() {
            for (values, is_exact) in [
                (PlainRows::F32(&rows), true), (PlainRows::F16(&halves), true), (PlainRows::Bf16(&brain), false),
            ] {
                let (mut low, mut high) = (vec![[7.0; 16]; k / width], vec![[7.0; 16]; k / width]);
                let found = isa.scope(|| panel_ranges(values, k, width, &mut low, &mut high));
                prop_assert_eq!(found, bad, "{}", isa);
                if bad.is_some() || !is_exact {
                    continue;
                }
                for (lane, row) in rows.chunks(k).enumerate() {
                    for (group, values) in row.chunks(width).enumerate() {
                        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
                        let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                        prop_assert_eq!((low[group][lane], high[group][lane]), (least, greatest), "{}", isa);
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "a panel of 33 columns")]
fn a_panel_of_another_length_is_refused() {
    let levels = PanelLevels {
        scale: &[[1.0; 16]],
        offset: &[[0.0; 16]],
        is_minimum: true,
    };
    dequantize_panel(&[0; 64], 33, 33, levels, CodeBits::Int8, &mut [0.0; 33]);
}

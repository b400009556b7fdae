//! Packing codes into panels loses nothing, and damaged panels are refused.

use kernels::{
    CodeBits, GroupScales, GroupZero, KernelError, QuantPanels, pack_panel16, unpack_panel16,
};
use proptest::prelude::*;

fn bits() -> impl Strategy<Value = CodeBits> {
    prop_oneof![
        Just(CodeBits::Int8),
        Just(CodeBits::Int4),
        Just(CodeBits::Int2)
    ]
}

proptest! {
    #[test]
    fn unpack_undoes_pack(bits in bits(), n in 0_usize..40, k in 0_usize..150, seed: u64) {
        let mut state = seed;
        let codes: Vec<u8> = (0..n * k)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u8 >> (8 - bits.width())
            })
            .collect();
        let packed = pack_panel16(&codes, n, k, bits);
        prop_assert_eq!(packed.len(), n.div_ceil(16) * k.div_ceil(bits.step_columns()) * 64);
        prop_assert_eq!(unpack_panel16(&packed, n, k, bits), codes);
    }
}

#[test]
fn a_buffer_of_the_wrong_length_is_refused_by_name() {
    let sound = QuantPanels {
        n: 20,
        k: 70,
        bits: CodeBits::Int4,
        group_size: 32,
        codes: &[0; 2 * 9 * 64],
        scales: GroupScales::F16(&[0; 2 * 3 * 16]),
        zero: GroupZero::U8(&[0; 2 * 3 * 16]),
    };
    assert_eq!(sound.check(), Ok(()));
    let what = |panels: QuantPanels<'_>| match panels.check() {
        Err(KernelError::Length { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        what(QuantPanels {
            codes: &[0; 64],
            ..sound
        }),
        "code bytes"
    );
    assert_eq!(
        what(QuantPanels {
            scales: GroupScales::F32(&[0.0]),
            ..sound
        }),
        "scales"
    );
    assert_eq!(
        what(QuantPanels {
            zero: GroupZero::U8(&[]),
            ..sound
        }),
        "zeros"
    );
    assert_eq!(
        what(QuantPanels {
            zero: GroupZero::MinF16(&[]),
            ..sound
        }),
        "minima"
    );
    assert!(matches!(
        QuantPanels {
            group_size: 12,
            ..sound
        }
        .check(),
        Err(KernelError::GroupSize { multiple: 8, .. })
    ));
    let long = QuantPanels {
        k: 70_000,
        group_size: 0,
        ..sound
    };
    assert!(matches!(
        long.check(),
        Err(KernelError::GroupTooLong { got: 70_000, .. })
    ));
    assert!(matches!(
        QuantPanels {
            n: usize::MAX,
            k: usize::MAX,
            group_size: 32,
            ..sound
        }
        .check(),
        Err(KernelError::Length { .. })
    ));
}

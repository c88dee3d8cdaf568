//! Grisu2, by which servers print scores from Redis 7.2 on: nearly always the shortest digits that are read as the same
//! number again, and not always. Since the text is hashed, a digit more or less is another digest: it is followed to the bit.
//!
//! Source: `grisu2` in `deps/fpconv/fpconv_dtoa.c` of Redis 7.2; Florian Loitsch, "Printing Floating-Point Numbers Quickly
//! and Accurately with Integers" (2010).

/// Grisu2's digits are never more.
const MAX_DIGITS: usize = 18;

/// The digits of a positive, finite number, as ASCII, how many they are, and the power of ten of the last one.
pub(super) fn grisu2(number: f64) -> ([u8; MAX_DIGITS], usize, i32) {
    let (significand, exponent) = parts(number);
    // the number and the ends of the interval of what is rounded to it, with a common exponent
    let upper = Float { significand: 2 * significand + 1, exponent: exponent - 1 }.normalized();
    let below = if significand == HIDDEN_BIT { 2 } else { 1 }; // the gap is half as wide below a power of two
    let lower = Float { significand: (significand << below) - 1, exponent: exponent - below };
    let lower = Float {
        significand: lower.significand << (lower.exponent - upper.exponent),
        exponent: upper.exponent,
    };
    let number = Float { significand, exponent }.normalized();

    let (power, power_of_ten) = cached_power(upper.exponent);
    let number = number.times(power);
    let mut upper = upper.times(power);
    let mut lower = lower.times(power);
    // each product may be off by one: stay inside
    upper.significand -= 1;
    lower.significand += 1;
    digits(number, upper, lower, -power_of_ten)
}

const HIDDEN_BIT: u64 = 1 << 52;
const EXPONENT_BIAS: i32 = 1023 + 52;

/// Significand and exponent of a positive, finite number.
fn parts(number: f64) -> (u64, i32) {
    let bits = number.to_bits();
    let fraction = bits & (HIDDEN_BIT - 1);
    match (bits >> 52) & 0x7ff {
        0 => (fraction, 1 - EXPONENT_BIAS),
        biased => (fraction + HIDDEN_BIT, biased as i32 - EXPONENT_BIAS), // 11 bits
    }
}

/// significand × 2^exponent.
#[derive(Clone, Copy)]
struct Float {
    significand: u64,
    exponent: i32,
}

impl Float {
    fn normalized(self) -> Self {
        let zeros = self.significand.leading_zeros();
        Self { significand: self.significand << zeros, exponent: self.exponent - zeros as i32 }
    }

    /// The upper half of the product, rounded.
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.significand) * u128::from(other.significand) + (1 << 63);
        Self { significand: (product >> 64) as u64, exponent: self.exponent + other.exponent + 64 }
    }
}

/// A power of ten that brings a number with this exponent to one of -60 to -32, and which one it is. Where two do, it
/// matters which: the search begins and goes on as the server's does.
///
/// Source: `find_cachedpow10` in `deps/fpconv/fpconv_powers.h`.
fn cached_power(exponent: i32) -> (Float, i32) {
    let guess = (-f64::from(exponent + 87) * 0.301_029_995_663_981_14) as i32;
    let mut index = (guess - FIRST_POWER) / POWER_STEP;
    loop {
        let place = usize::try_from(index).unwrap_or(0).min(POWERS_OF_TEN.len() - 1);
        let power = FIRST_POWER + POWER_STEP * place as i32;
        // floor(power × log2(10)), which is right for all that are here
        let power_exponent = ((power * 1_741_647) >> 19) - 63;
        match exponent + power_exponent + 64 {
            ..-60 => index += 1,
            -31.. => index -= 1,
            _ => return (Float { significand: POWERS_OF_TEN[place], exponent: power_exponent }, power),
        }
    }
}

/// Digits of `upper` until what is left is within the interval, then down towards `number` in the last digit.
fn digits(number: Float, upper: Float, lower: Float, power: i32) -> ([u8; MAX_DIGITS], usize, i32) {
    let mut out = Digits { digits: [b'0'; MAX_DIGITS], len: 0 };
    let above = upper.significand - number.significand;
    let mut width = upper.significand - lower.significand;
    let shift = upper.exponent.unsigned_abs(); // 32 to 60, see `cached_power`
    let one = 1_u64 << shift;
    let mut whole = upper.significand >> shift; // less than 2^32
    let mut fraction = upper.significand & (one - 1);

    for place in (0..10).rev() {
        let unit = 10_u64.pow(place);
        out.push(whole / unit);
        whole %= unit;
        let rest = (whole << shift) + fraction;
        if rest <= width {
            out.round(width, rest, unit << shift, above);
            return (out.digits, out.len, power + place as i32);
        }
    }
    let mut unit = 1_u64;
    // it ends long before, since the width grows tenfold each time
    for place in 1..=20 {
        (fraction, width, unit) = (fraction * 10, width.wrapping_mul(10), unit.wrapping_mul(10));
        out.push(fraction >> shift);
        fraction &= one - 1;
        if fraction < width {
            out.round(width, fraction, one, above.wrapping_mul(unit));
            return (out.digits, out.len, power - place);
        }
    }
    (out.digits, out.len, power - 20)
}

struct Digits {
    digits: [u8; MAX_DIGITS],
    len: usize,
}

impl Digits {
    fn push(&mut self, digit: u64) {
        if (digit > 0 || self.len > 0) && self.len < MAX_DIGITS {
            self.digits[self.len] = b'0' + digit as u8; // less than 10
            self.len += 1;
        }
    }

    /// Lowers the last digit, each time by `unit`, while that comes closer to what is `above` under the upper end.
    fn round(&mut self, width: u64, mut rest: u64, unit: u64, above: u64) {
        let Some(last) = self.digits[..self.len].last_mut() else { return };
        while rest < above && width - rest >= unit {
            let lowered = rest.wrapping_add(unit);
            if lowered >= above && above - rest <= lowered - above {
                return;
            }
            *last -= 1;
            rest = lowered;
        }
    }
}

const FIRST_POWER: i32 = -348;
const POWER_STEP: i32 = 8;

/// The upper 64 bits, rounded, of 10^-348, 10^-340 … 10^340.
#[rustfmt::skip]
const POWERS_OF_TEN: [u64; 87] = [
    0xfa8f_d5a0_081c_0288, 0xbaae_e17f_a23e_bf76, 0x8b16_fb20_3055_ac76, 0xcf42_894a_5dce_35ea,
    0x9a6b_b0aa_5565_3b2d, 0xe61a_cf03_3d1a_45df, 0xab70_fe17_c79a_c6ca, 0xff77_b1fc_bebc_dc4f,
    0xbe56_91ef_416b_d60c, 0x8dd0_1fad_907f_fc3c, 0xd351_5c28_3155_9a83, 0x9d71_ac8f_ada6_c9b5,
    0xea9c_2277_23ee_8bcb, 0xaecc_4991_4078_536d, 0x823c_1279_5db6_ce57, 0xc210_9436_4dfb_5637,
    0x9096_ea6f_3848_984f, 0xd774_85cb_2582_3ac7, 0xa086_cfcd_97bf_97f4, 0xef34_0a98_172a_ace5,
    0xb238_67fb_2a35_b28e, 0x84c8_d4df_d2c6_3f3b, 0xc5dd_4427_1ad3_cdba, 0x936b_9fce_bb25_c996,
    0xdbac_6c24_7d62_a584, 0xa3ab_6658_0d5f_daf6, 0xf3e2_f893_dec3_f126, 0xb5b5_ada8_aaff_80b8,
    0x8762_5f05_6c7c_4a8b, 0xc9bc_ff60_34c1_3053, 0x964e_858c_91ba_2655, 0xdff9_7724_7029_7ebd,
    0xa6df_bd9f_b8e5_b88f, 0xf8a9_5fcf_8874_7d94, 0xb944_7093_8fa8_9bcf, 0x8a08_f0f8_bf0f_156b,
    0xcdb0_2555_6531_31b6, 0x993f_e2c6_d07b_7fac, 0xe45c_10c4_2a2b_3b06, 0xaa24_2499_6973_92d3,
    0xfd87_b5f2_8300_ca0e, 0xbce5_0864_9211_1aeb, 0x8cbc_cc09_6f50_88cc, 0xd1b7_1758_e219_652c,
    0x9c40_0000_0000_0000, 0xe8d4_a510_0000_0000, 0xad78_ebc5_ac62_0000, 0x813f_3978_f894_0984,
    0xc097_ce7b_c907_15b3, 0x8f7e_32ce_7bea_5c70, 0xd5d2_38a4_abe9_8068, 0x9f4f_2726_179a_2245,
    0xed63_a231_d4c4_fb27, 0xb0de_6538_8cc8_ada8, 0x83c7_088e_1aab_65db, 0xc45d_1df9_4271_1d9a,
    0x924d_692c_a61b_e758, 0xda01_ee64_1a70_8dea, 0xa26d_a399_9aef_774a, 0xf209_787b_b47d_6b85,
    0xb454_e4a1_79dd_1877, 0x865b_8692_5b9b_c5c2, 0xc835_53c5_c896_5d3d, 0x952a_b45c_fa97_a0b3,
    0xde46_9fbd_99a0_5fe3, 0xa59b_c234_db39_8c25, 0xf6c6_9a72_a398_9f5c, 0xb7dc_bf53_54e9_bece,
    0x88fc_f317_f222_41e2, 0xcc20_ce9b_d35c_78a5, 0x9816_5af3_7b21_53df, 0xe2a0_b5dc_971f_303a,
    0xa8d9_d153_5ce3_b396, 0xfb9b_7cd9_a4a7_443c, 0xbb76_4c4c_a7a4_4410, 0x8bab_8eef_b640_9c1a,
    0xd01f_ef10_a657_842c, 0x9b10_a4e5_e991_3129, 0xe710_9bfb_a19c_0c9d, 0xac28_20d9_623b_f429,
    0x8044_4b5e_7aa7_cf85, 0xbf21_e440_03ac_dd2d, 0x8e67_9c2f_5e44_ff8f, 0xd433_179d_9c8c_b841,
    0x9e19_db92_b4e3_1ba9, 0xeb96_bf6e_badf_77d9, 0xaf87_023b_9bf0_ee6b,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positive_powers_are_exact_or_rounded() {
        for (index, &significand) in POWERS_OF_TEN.iter().enumerate() {
            let power = FIRST_POWER + POWER_STEP * index as i32;
            if (0..=38).contains(&power) {
                let exact = 10_u128.pow(power as u32);
                let top = (exact << exact.leading_zeros()) >> 63;
                assert_eq!(u128::from(significand), top.div_ceil(2), "10^{power}");
            }
            assert!(significand >> 63 == 1, "10^{power} is not normalized");
        }
    }

    #[test]
    fn ends_of_the_range_are_reached() {
        for number in [f64::MAX, f64::MIN_POSITIVE, 5e-324, 1.0, 2.0_f64.powi(1023), 2.0_f64.powi(-1022)] {
            let (digits, len, power) = grisu2(number);
            let text = format!("{}e{power}", std::str::from_utf8(&digits[..len]).expect("digits"));
            assert_eq!(text.parse(), Ok(number));
        }
    }
}

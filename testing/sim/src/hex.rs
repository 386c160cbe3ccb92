//! Hexadecimal text in files, for `#[serde(with = "hex")]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What hexadecimal text in a file stands for: bytes of fixed or any length, or a list.
pub(crate) trait Hex: Sized {
    type Text: Serialize + for<'de> Deserialize<'de>;
    fn to_text(&self) -> Self::Text;
    fn from_text(text: Self::Text) -> Result<Self, &'static str>;
}

impl Hex for Vec<u8> {
    type Text = String;
    fn to_text(&self) -> String {
        encode(self)
    }
    fn from_text(text: String) -> Result<Self, &'static str> {
        decode(&text)
    }
}

impl<const N: usize> Hex for [u8; N] {
    type Text = String;
    fn to_text(&self) -> String {
        encode(self)
    }
    fn from_text(text: String) -> Result<Self, &'static str> {
        decode(&text)?.try_into().map_err(|_| WRONG_LENGTH)
    }
}

impl<const N: usize> Hex for Box<[u8; N]> {
    type Text = String;
    fn to_text(&self) -> String {
        encode(&**self)
    }
    fn from_text(text: String) -> Result<Self, &'static str> {
        decode(&text)?.try_into().map_err(|_| WRONG_LENGTH)
    }
}

impl Hex for Vec<Vec<u8>> {
    type Text = Vec<String>;
    fn to_text(&self) -> Vec<String> {
        self.iter().map(|bytes| encode(bytes)).collect()
    }
    fn from_text(text: Vec<String>) -> Result<Self, &'static str> {
        text.iter().map(|text| decode(text)).collect()
    }
}

pub(crate) fn serialize<T: Hex, S: Serializer>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.to_text().serialize(serializer)
}

pub(crate) fn deserialize<'de, T: Hex, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::from_text(T::Text::deserialize(deserializer)?).map_err(de::Error::custom)
}

const WRONG_LENGTH: &str = "hexadecimal text of the wrong length";

fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|&byte| [byte >> 4, byte & 15])
        .map(|digit| DIGITS[usize::from(digit)] as char)
        .collect()
}

fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or("not hexadecimal");
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return Err("an odd number of hexadecimal digits");
    };
    pairs.iter().map(|&[high, low]| Ok((digit(high)? << 4 | digit(low)?) as u8)).collect()
}

//! Wrapping sequence numbers.

use core::fmt;

//= ZSSP-SEQ-03  32 bits that wrap
/// The number of a packet: 32 bits that wrap.
///
/// Wrapping numbers have no total order, so this type has no `Ord`; compare distances instead.
///
/// ```
/// use seqex::SeqNo;
/// let last = SeqNo::new(u32::MAX);
/// assert_eq!(last.next(), SeqNo::new(0));
/// assert_eq!(SeqNo::new(3).since(last), 4);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SeqNo(u32);

impl SeqNo {
    /// The sequence number of this value.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The value as it goes over the wire.
    pub const fn to_u32(self) -> u32 {
        self.0
    }

    /// The number that follows, zero after the last.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The number `distance` steps later.
    #[must_use]
    pub const fn plus(self, distance: u32) -> Self {
        Self(self.0.wrapping_add(distance))
    }

    /// How many steps later than `earlier` this number is, modulo 2³².
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Whether this number comes after `other`, for numbers known to be close.
    pub(crate) const fn is_after(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) > 0
    }

    //= ZSSP-SEQ-13  indexed by the number modulo the capacity
    /// The slot of this number in a ring whose length is a power of two, so that neighbours stay
    /// neighbours where the numbers wrap.
    pub(crate) const fn index(self, ring: usize) -> usize {
        self.0 as usize & (ring - 1)
    }
}

impl From<u32> for SeqNo {
    fn from(value: u32) -> Self {
        Self(value)
    }
}

impl fmt::Debug for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

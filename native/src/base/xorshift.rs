//! xorshift64, for tests whose cases must come again from the same seed.

pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, below: u64) -> u64 {
        self.draw() % below
    }
}

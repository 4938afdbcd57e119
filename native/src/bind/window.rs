//! Map pages with the places of their blocks.

use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, Float64Array, Result, Uint32Array};
use napi_derive::napi;

use super::formats::{ManifestPage, wrong_kind};
use super::thrown;
use crate::formats::page::Page;
use crate::retrieve::window;

/// A map page and where its blocks lie.
#[napi]
pub struct Window(pub(super) Arc<window::Window>);

/// A range of a pack, and the entries whose records lie in it.
#[napi(object)]
pub struct WindowRange {
    pub stripe: f64,
    pub start: u32,
    pub end: u32,
    pub entries: Vec<u32>,
}

/// Birth numbers of records (docs/formats/pack.md): the stripe that each was first stored in, and its place among that
/// stripe's records.
#[napi(object)]
pub struct Births {
    pub stripes: Float64Array,
    pub ordinals: Uint32Array,
}

impl Births {
    pub(super) fn of(births: impl Iterator<Item = u64> + Clone) -> Self {
        let stripes: Vec<f64> = births.clone().map(|birth| (birth >> 16) as f64).collect();
        let ordinals: Vec<u32> = births.map(|birth| (birth & 0xffff) as u32).collect();
        Self { stripes: stripes.into(), ordinals: ordinals.into() }
    }
}

#[napi]
impl ManifestPage {
    /// Of a map page: the birth numbers of its blocks.
    #[napi]
    pub fn births(&self) -> Result<Births> {
        let Page::Map(entries) = &*self.0 else { return Err(wrong_kind()) };
        Ok(Births::of(window::stored(entries).map(|block| block.birth)))
    }

    /// Of a map page: the signatures of its blocks, 32 bytes each.
    #[napi]
    pub fn block_ids(&self) -> Result<Buffer> {
        let Page::Map(entries) = &*self.0 else { return Err(wrong_kind()) };
        Ok(window::ids(entries).into())
    }

    /// Of a map page: where its first entry lies on the disk.
    #[napi]
    pub fn first_offset(&self) -> Result<f64> {
        let Page::Map(entries) = &*self.0 else { return Err(wrong_kind()) };
        Ok(entries.first().map_or(0.0, |entry| entry.disk as f64))
    }

    /// Of a map page: the page with its blocks' places, in the order of `births`. Throws CORRUPT for one that no
    /// pack can have.
    #[napi]
    pub fn window(&self, stripes: Float64Array, offsets: Uint32Array, lengths: Uint32Array) -> Result<Window> {
        let stripes: Vec<u64> = stripes.iter().map(|&stripe| stripe as u64).collect();
        let window = window::Window::new(self.0.clone(), &stripes, &offsets, &lengths);
        window.map(|window| Window(Arc::new(window))).map_err(thrown)
    }
}

#[napi]
impl Window {
    /// The ranges to fetch for some entries; records closer than `gap` share one.
    #[napi]
    pub fn ranges(&self, entries: Vec<u32>, gap: u32) -> Vec<WindowRange> {
        let range = |window::Range { stripe, start, end, entries }| {
            let stripe = stripe as f64;
            WindowRange { stripe, start, end, entries }
        };
        self.0.ranges(&entries, gap).into_iter().map(range).collect()
    }
}

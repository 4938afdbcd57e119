//! Hostile edits.

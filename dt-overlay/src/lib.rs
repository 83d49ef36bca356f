//! Flattened device trees: finding the NICs that a board describes.

//! The generation of images.

use super::dialect::{Dialect, RequestDialect};

pub(super) const DIALECT: Dialect = Dialect {
    name: "images",
    paths: &["/v1/images/generations"],
    request: RequestDialect::of_prompt("prompt"),
};

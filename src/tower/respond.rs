//! How a layer makes a response of a rejection.

use ::http::Response;

use crate::http::Rejection;

/// Makes a response of a rejection. [`AuthLayer`](super::AuthLayer) uses [`ByDialect`]
/// unless [`respond_with`](super::AuthLayer::respond_with) sets a closure.
///
/// ```
/// use gatekey::http::Dialect;
/// use gatekey::tower::{ByDialect, Respond};
/// use http::Response;
///
/// let response: Response<Vec<u8>> = ByDialect.respond(&Dialect::default().missing());
/// assert_eq!(response.status(), 401);
/// ```
pub trait Respond<B> {
    /// The response to a rejected request.
    fn respond(&self, rejection: &Rejection) -> Response<B>;
}

/// Responds as the dialect does, with a body of bytes: for every body type that is
/// `From<Vec<u8>>`, such as those of axum and hyper.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByDialect;

impl<B: From<Vec<u8>>> Respond<B> for ByDialect {
    fn respond(&self, rejection: &Rejection) -> Response<B> {
        rejection.response().map(B::from)
    }
}

/// Responds by a closure: see [`AuthLayer::respond_with`](super::AuthLayer::respond_with).
#[derive(Debug, Clone, Copy)]
pub struct RespondWith<F>(pub(super) F);

impl<B, F: Fn(&Rejection) -> Response<B>> Respond<B> for RespondWith<F> {
    fn respond(&self, rejection: &Rejection) -> Response<B> {
        (self.0)(rejection)
    }
}

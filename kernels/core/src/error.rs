//! The one error of the native side. It crosses to TypeScript as data (`code`, `message`) and becomes an exception there.

use std::any::Any;

/// What went wrong, in the words of the TypeScript side's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// What was configured cannot be had: a folder, a size.
    BadConfig,
    /// A request asks for what cannot be.
    InvalidRequest,
    /// A file from outside is missing, cut off or malformed.
    BadModel,
    /// The backend has no kernel for an op, a dtype or a shape.
    Unsupported,
    /// Memory could not be had.
    OutOfMemory,
    /// The device has failed for good: only a new process can use it again.
    DeviceLost,
    /// The caller broke a documented duty: a bug of kvengine's own.
    Internal,
}

impl Code {
    /// The code as TypeScript spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadConfig => "bad_config",
            Self::InvalidRequest => "invalid_request",
            Self::BadModel => "bad_model",
            Self::Unsupported => "unsupported",
            Self::OutOfMemory => "out_of_memory",
            Self::DeviceLost => "device_lost",
            Self::Internal => "internal",
        }
    }
}

/// An error with its code; the message names the subject (an op's label, a tensor, a file) and what is allowed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind, for programs.
    pub code: Code,
    /// The sentence, for people.
    pub message: String,
}

/// Result with [`Failure`].
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// What was configured cannot be had.
    pub fn bad_config(message: impl Into<String>) -> Self {
        Self { code: Code::BadConfig, message: message.into() }
    }
    /// A request asks for what cannot be.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self { code: Code::InvalidRequest, message: message.into() }
    }
    /// A model file is wrong.
    pub fn bad_model(message: impl Into<String>) -> Self {
        Self { code: Code::BadModel, message: message.into() }
    }
    /// No kernel for this.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self { code: Code::Unsupported, message: message.into() }
    }
    /// No memory for this.
    pub fn out_of_memory(message: impl Into<String>) -> Self {
        Self { code: Code::OutOfMemory, message: message.into() }
    }
    /// The device has failed for good.
    pub fn device_lost(message: impl Into<String>) -> Self {
        Self { code: Code::DeviceLost, message: message.into() }
    }
    /// A bug of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { code: Code::Internal, message: message.into() }
    }
}

/// What a caught panic says.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

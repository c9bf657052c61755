//! A core failure as a JavaScript error whose message is JSON `{code, message}`.

use kvengine_core::error::Failure;
use std::fmt::Write;

/// What `engine/runner/native.ts` turns back into a `KvEngineError`.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
pub(crate) fn to_js(failure: Failure) -> napi::Error {
    let message =
        format!(r#"{{"code":"{}","message":{}}}"#, failure.code.as_str(), json_string(&failure.message));
    napi::Error::from_reason(message)
}

fn json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for char in text.chars() {
        match char {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            control if (control as u32) < 0x20 => {
                // Writing to a String cannot fail.
                let _written = write!(json, "\\u{:04x}", control as u32);
            }
            other => json.push(other),
        }
    }
    json.push('"');
    json
}

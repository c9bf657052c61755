//! Copies of host pages that JavaScript may keep and bring back.
#![expect(unsafe_code, reason = "fills arrays that JavaScript keeps its hands off meanwhile")]

use crate::error::to_js;
use crate::transfers::Transfers;
use kvengine_core::transfer as core;
use napi::bindgen_prelude::{AsyncTask, Int32Array, Uint8Array};
use napi::{Env, Task};
use napi_derive::napi;
use std::sync::Arc;

#[napi]
impl Transfers {
    /// Bytes of a copy: those of a page and of what it is known by when it comes back.
    #[napi(getter)]
    pub fn copy_bytes(&self) -> u32 {
        (self.core.page_bytes() + core::STAMP_BYTES) as u32
    }

    /// Copies host pages to `copies`, on a thread that nobody waits for. Nobody else may use the copies until the promise settles.
    /// Answers a code for each page, empty where it arrived.
    #[napi(ts_return_type = "Promise<Array<string>>")]
    pub fn copy_out(
        &self,
        pages: Int32Array,
        names: Vec<String>,
        epoch: i64,
        copies: Vec<Uint8Array>,
    ) -> AsyncTask<CopyPages> {
        self.copy_pages(core::Way::Out, pages, names, epoch, copies)
    }

    /// Copies `copies` to host pages, as `copyOut` does.
    #[napi(ts_return_type = "Promise<Array<string>>")]
    pub fn copy_in(
        &self,
        pages: Int32Array,
        names: Vec<String>,
        epoch: i64,
        copies: Vec<Uint8Array>,
    ) -> AsyncTask<CopyPages> {
        self.copy_pages(core::Way::In, pages, names, epoch, copies)
    }
}

impl Transfers {
    fn copy_pages(
        &self,
        way: core::Way,
        pages: Int32Array,
        names: Vec<String>,
        epoch: i64,
        copies: Vec<Uint8Array>,
    ) -> AsyncTask<CopyPages> {
        AsyncTask::new(CopyPages { core: Arc::clone(&self.core), way, pages, names, epoch, copies })
    }
}

/// Copies on a native thread.
pub struct CopyPages {
    core: Arc<core::Transfers>,
    way: core::Way,
    pages: Int32Array,
    names: Vec<String>,
    epoch: i64,
    copies: Vec<Uint8Array>,
}

impl Task for CopyPages {
    type Output = Vec<String>;
    type JsValue = Vec<String>;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        let Self { core, way, pages, names, epoch, copies } = self;
        let copy_of = |((page, name), copy): ((&i32, &String), &mut Uint8Array)| {
            // SAFETY: nobody else uses the copy until the promise settles: `engine/connectors/tiers/js-tier-port.ts` keeps it to itself.
            let bytes = unsafe { copy.as_mut() };
            let copied = core.copy_page(*way, *page, name, *epoch, bytes).map_err(to_js)?;
            Ok(copied.err().map_or_else(String::new, |error| error.code.into_owned()))
        };
        pages.iter().zip(names.iter()).zip(copies.iter_mut()).map(copy_of).collect()
    }

    fn resolve(&mut self, _env: Env, codes: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(codes)
    }
}

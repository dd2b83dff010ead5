//! The C interface of libchdb behind safe types: the only file of the crate with unsafe code.
//!
//! A [`Connection`] runs one statement at a time, which `&mut self` expresses;
//! results own the memory that libchdb gave them and release it when dropped.
#![expect(
    unsafe_code,
    reason = "libchdb is a C library loaded at run time; every call crosses the language border"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::slice;
use std::sync::{Mutex, PoisonError};

use crate::statistics::Statistics;

/// Why libchdb could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be opened, or lacks a function this crate needs.
    #[error("cannot load {path}: {source}")]
    Open {
        /// The library that was tried.
        path: PathBuf,
        /// What the dynamic loader said.
        source: libloading::Error,
    },
    /// Another copy is already part of this process.
    #[error(
        "this process already runs on {loaded}; a second libchdb, {wanted}, cannot be loaded beside it"
    )]
    OtherLibrary {
        /// The library in use.
        loaded: PathBuf,
        /// The library asked for.
        wanted: PathBuf,
    },
}

#[repr(C)]
struct RawResult {
    _private: [u8; 0],
}

#[repr(C)]
struct RawInsert {
    _private: [u8; 0],
}

#[repr(C)]
struct RawConnection {
    _private: [u8; 0],
}

#[repr(C)]
struct RawAnalysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

/// `CHDB_QUERY_UNKNOWN`.
const QUERY_UNKNOWN: u32 = 4;

type StatementFn<T> = unsafe extern "C" fn(
    *mut RawConnection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> *mut T;

type CounterFn = unsafe extern "C" fn(*mut RawResult) -> u64;

/// The functions of a loaded libchdb. It stays loaded until the process ends:
/// the engine's threads and thread-local destructors outlive any connection.
pub(crate) struct Api {
    path: PathBuf,
    connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut *mut RawConnection,
    close: unsafe extern "C" fn(*mut *mut RawConnection),
    query: StatementFn<RawResult>,
    destroy: unsafe extern "C" fn(*mut RawResult),
    insert: StatementFn<RawInsert>,
    append: unsafe extern "C" fn(*mut RawInsert, *const c_void, usize) -> c_int,
    done: unsafe extern "C" fn(*mut RawInsert) -> *mut RawResult,
    cancel_insert: unsafe extern "C" fn(*mut RawInsert),
    insert_error: unsafe extern "C" fn(*mut RawInsert) -> *const c_char,
    destroy_insert: unsafe extern "C" fn(*mut RawInsert),
    buffer: unsafe extern "C" fn(*mut RawResult) -> *mut c_char,
    length: unsafe extern "C" fn(*mut RawResult) -> usize,
    error: unsafe extern "C" fn(*mut RawResult) -> *const c_char,
    rows_read: CounterFn,
    bytes_read: CounterFn,
    storage_rows_read: CounterFn,
    storage_bytes_read: CounterFn,
    rows_written: CounterFn,
    bytes_written: CounterFn,
    classify: unsafe extern "C" fn(
        *mut RawConnection,
        *const c_char,
        usize,
        *const c_char,
        usize,
        *mut RawAnalysis,
    ) -> c_int,
}

unsafe extern "C" {
    fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    fn _exit(status: c_int) -> !;
}

/// Ends the process without running the destructors of libchdb's globals, which
/// its threads may be using: an exit would end in a crash now and then. What
/// the engine has to keep is on disk by the time a statement is acknowledged.
extern "C" fn leave_at_once(status: c_int, _: *mut c_void) {
    // SAFETY: ends the process; nothing of ours runs afterwards.
    unsafe { _exit(status) }
}

static LOADED: Mutex<Option<&'static Api>> = Mutex::new(None);

impl Api {
    /// Loads the library, or returns it if this process has loaded it before.
    pub(crate) fn load(path: &Path) -> Result<&'static Api, LoadError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(api) = *loaded {
            return if api.path == path {
                Ok(api)
            } else {
                Err(LoadError::OtherLibrary {
                    loaded: api.path.clone(),
                    wanted: path.to_owned(),
                })
            };
        }
        let api: &'static Api = Box::leak(Box::new(Self::open(path).map_err(|source| {
            LoadError::Open {
                path: path.to_owned(),
                source,
            }
        })?));
        *loaded = Some(api);
        Ok(api)
    }

    fn open(path: &Path) -> Result<Api, libloading::Error> {
        // SAFETY: the caller vouches that the file is libchdb; its initialisers
        // are those of a C++ library and expect nothing from us. The signatures
        // below are those of chdb.h 26.7. The library is leaked at the end, so
        // the copied function pointers stay valid.
        unsafe {
            let library = libloading::Library::new(path)?;
            let set_signal_handlers: unsafe extern "C" fn(c_int) =
                *library.get(b"chdb_set_signal_handlers_enabled\0")?;
            // Signals belong to the process that embeds the engine.
            set_signal_handlers(0);
            let api = Api {
                path: path.to_owned(),
                connect: *library.get(b"chdb_connect\0")?,
                close: *library.get(b"chdb_close_conn\0")?,
                query: *library.get(b"chdb_query_with_params_n\0")?,
                destroy: *library.get(b"chdb_destroy_query_result\0")?,
                insert: *library.get(b"chdb_stream_insert_with_params_n\0")?,
                append: *library.get(b"chdb_stream_append\0")?,
                done: *library.get(b"chdb_stream_done\0")?,
                cancel_insert: *library.get(b"chdb_stream_cancel_insert\0")?,
                insert_error: *library.get(b"chdb_stream_insert_error\0")?,
                destroy_insert: *library.get(b"chdb_destroy_insert_stream\0")?,
                buffer: *library.get(b"chdb_result_buffer\0")?,
                length: *library.get(b"chdb_result_length\0")?,
                error: *library.get(b"chdb_result_error\0")?,
                rows_read: *library.get(b"chdb_result_rows_read\0")?,
                bytes_read: *library.get(b"chdb_result_bytes_read\0")?,
                storage_rows_read: *library.get(b"chdb_result_storage_rows_read\0")?,
                storage_bytes_read: *library.get(b"chdb_result_storage_bytes_read\0")?,
                rows_written: *library.get(b"chdb_result_rows_written\0")?,
                bytes_written: *library.get(b"chdb_result_bytes_written\0")?,
                classify: *library.get(b"chdb_classify_query_n\0")?,
            };
            std::mem::forget(library);
            Ok(api)
        }
    }

    /// Opens a connection. The first one of a process boots the engine with
    /// `arguments`; libchdb prints the reason of a failure to stderr and
    /// returns nothing but the fact.
    pub(crate) fn connect(&'static self, arguments: &[String]) -> Option<Connection> {
        let owned: Vec<CString> = std::iter::once("aviary-engine")
            .chain(arguments.iter().map(String::as_str))
            .map(CString::new)
            .collect::<Result<_, _>>()
            .ok()?;
        let mut pointers: Vec<*mut c_char> =
            owned.iter().map(|text| text.as_ptr().cast_mut()).collect();
        let count = c_int::try_from(pointers.len()).ok()?;
        // SAFETY: `pointers` holds `count` NUL-terminated strings that live
        // until the call returns; libchdb copies what it keeps.
        let slot = unsafe { (self.connect)(count, pointers.as_mut_ptr()) };
        if slot.is_null() {
            return None;
        }
        Some(Connection { api: self, slot })
    }

    /// Sees to it that the process may exit while the engine runs. Called after
    /// each opening, since what libchdb made meanwhile is destroyed first.
    pub(crate) fn survive_exit() {
        // SAFETY: the handler is a plain function that lives as long as the process.
        let refused = unsafe { on_exit(leave_at_once, ptr::null_mut()) };
        if refused != 0 {
            tracing::warn!("the process may crash when it exits while queries run");
        }
    }
}

/// What the engine's own parser says of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Analysis {
    pub(crate) statements: u32,
    pub(crate) class: QueryClass,
}

/// `chdb_query_class`: what a statement may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueryClass {
    /// Nothing, and it writes no file either.
    ReadOnly,
    /// Databases, tables or rows.
    Mutating,
    /// The session, the server, users, or it is not known.
    Other,
}

/// Named query parameters with their values as ClickHouse's escaped text.
pub(crate) type Parameters = [(String, String)];

/// Pointer and length arrays of the parameters, as the C interface wants them.
struct RawParameters {
    names: Vec<*const c_char>,
    name_lengths: Vec<usize>,
    values: Vec<*const c_char>,
    value_lengths: Vec<usize>,
}

impl RawParameters {
    fn new(parameters: &Parameters) -> Self {
        let pointer = |text: &String| text.as_ptr().cast::<c_char>();
        Self {
            names: parameters.iter().map(|(name, _)| pointer(name)).collect(),
            name_lengths: parameters.iter().map(|(name, _)| name.len()).collect(),
            values: parameters.iter().map(|(_, value)| pointer(value)).collect(),
            value_lengths: parameters.iter().map(|(_, value)| value.len()).collect(),
        }
    }
}

/// One session with the engine. Closing the last one shuts the engine down.
pub(crate) struct Connection {
    api: &'static Api,
    slot: *mut *mut RawConnection,
}

// SAFETY: libchdb keeps no thread-bound state between calls on a connection
// (each call sets up its own thread status), so it may move between threads.
unsafe impl Send for Connection {}

impl Connection {
    fn raw(&self) -> *mut RawConnection {
        // SAFETY: `slot` came from chdb_connect and is released only in drop.
        unsafe { *self.slot }
    }

    /// Runs a statement of any kind and collects its whole output.
    pub(crate) fn query(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<Output, String> {
        let result = self.call(self.api.query, sql, format, parameters);
        Output::from_raw(self.api, result)
    }

    /// Starts an INSERT whose rows, in `format`, are appended as they come.
    pub(crate) fn insert(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<InsertStream<'_>, String> {
        let stream = self.call(self.api.insert, sql, format, parameters);
        if stream.is_null() {
            return Err(NO_RESULT.to_owned());
        }
        let started = InsertStream {
            connection: self,
            stream,
        };
        match started.error() {
            Some(message) => Err(message),
            None => Ok(started),
        }
    }

    /// What the engine's own parser makes of `sql`: no statement and the
    /// unknown class where it does not parse.
    pub(crate) fn classify(&mut self, sql: &[u8]) -> Analysis {
        let mut analysis = RawAnalysis {
            struct_size: u32::try_from(size_of::<RawAnalysis>()).unwrap_or(0),
            statement_count: 0,
            flags: 0,
            query_class: QUERY_UNKNOWN,
        };
        // SAFETY: `sql` is valid for its length, the target database is absent,
        // and `analysis` announces its true size.
        let state = unsafe {
            (self.api.classify)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                ptr::null(),
                0,
                &raw mut analysis,
            )
        };
        Analysis {
            statements: if state == 0 {
                analysis.statement_count
            } else {
                0
            },
            class: match analysis.query_class {
                0 => QueryClass::ReadOnly,
                1 => QueryClass::Mutating,
                _ => QueryClass::Other,
            },
        }
    }

    fn call<T>(
        &self,
        function: StatementFn<T>,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> *mut T {
        let raw = RawParameters::new(parameters);
        // SAFETY: every pointer is valid for the length beside it and outlives
        // the call; the arrays have `parameters.len()` entries.
        unsafe {
            function(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                raw.names.as_ptr(),
                raw.name_lengths.as_ptr(),
                raw.values.as_ptr(),
                raw.value_lengths.as_ptr(),
                parameters.len(),
            )
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: `slot` is ours, and borrows by insertions ended before this.
        unsafe { (self.api.close)(self.slot) };
    }
}

const NO_RESULT: &str = "Code: 49. DB::Exception: libchdb returned no result. (LOGICAL_ERROR)";

/// A piece of formatted output, in the memory libchdb wrote it to.
pub(crate) struct Output {
    api: &'static Api,
    result: *mut RawResult,
    bytes: *const u8,
    length: usize,
}

// SAFETY: the result is plain heap memory, only read after it was made.
unsafe impl Send for Output {}
// SAFETY: shared access only reads.
unsafe impl Sync for Output {}

impl Output {
    fn from_raw(api: &'static Api, result: *mut RawResult) -> Result<Self, String> {
        if result.is_null() {
            return Err(NO_RESULT.to_owned());
        }
        // SAFETY: `result` is not null and belongs to us until destroyed.
        let (message, bytes, length) = unsafe {
            (
                text((api.error)(result)),
                (api.buffer)(result).cast_const().cast::<u8>(),
                (api.length)(result),
            )
        };
        let output = Output {
            api,
            result,
            bytes,
            length: if bytes.is_null() { 0 } else { length },
        };
        match message {
            Some(message) => Err(message),
            None => Ok(output),
        }
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let counter = |function: CounterFn| {
            // SAFETY: `result` is alive until drop.
            unsafe { function(self.result) }
        };
        Statistics {
            read_rows: counter(self.api.storage_rows_read),
            read_bytes: counter(self.api.storage_bytes_read),
            written_rows: counter(self.api.rows_written),
            written_bytes: counter(self.api.bytes_written),
            result_rows: counter(self.api.rows_read),
            result_bytes: counter(self.api.bytes_read),
        }
    }
}

impl AsRef<[u8]> for Output {
    fn as_ref(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: libchdb guarantees `length` bytes at `bytes` until destroyed.
        unsafe { slice::from_raw_parts(self.bytes, self.length) }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: `result` is ours and not used afterwards.
        unsafe { (self.api.destroy)(self.result) };
    }
}

/// A running INSERT. Dropped before [`InsertStream::finish`], it is cancelled.
pub(crate) struct InsertStream<'connection> {
    connection: &'connection mut Connection,
    stream: *mut RawInsert,
}

impl InsertStream<'_> {
    /// Hands over some bytes, waiting while the engine is behind. False means
    /// the insert has failed; [`InsertStream::finish`] tells why.
    pub(crate) fn append(&mut self, data: &[u8]) -> bool {
        // SAFETY: the handle is alive; libchdb copies the bytes.
        unsafe { (self.connection.api.append)(self.stream, data.as_ptr().cast(), data.len()) == 0 }
    }

    /// Ends the input and waits until the rows are stored.
    pub(crate) fn finish(self) -> Result<Statistics, String> {
        let api = self.connection.api;
        // SAFETY: the handle is alive; the result is a new one of ours.
        let result = unsafe { (api.done)(self.stream) };
        Output::from_raw(api, result).map(|output| output.statistics())
    }

    fn error(&self) -> Option<String> {
        // SAFETY: the handle is alive, and the text is copied at once.
        unsafe { text((self.connection.api.insert_error)(self.stream)) }
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        let api = self.connection.api;
        // SAFETY: the handle is ours; cancelling a finished stream does nothing.
        unsafe {
            (api.cancel_insert)(self.stream);
            (api.destroy_insert)(self.stream);
        }
    }
}

/// Copies a C string that may be absent.
///
/// # Safety
/// `pointer` is null or points to a NUL-terminated string.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let message = unsafe { CStr::from_ptr(pointer) };
    (!message.is_empty()).then(|| message.to_string_lossy().into_owned())
}

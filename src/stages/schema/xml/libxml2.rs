//! Bindings to libxml2, which validates XML against XSD 1.0, with safe types around them.
//!
//! The library is loaded when a policy first has an XML schema, so a build needs no C headers, and a host without XML
//! schemas needs no libxml2. This is the only file with `unsafe`. It uses only functions and leading struct fields that
//! 2.9 to 2.15 share.
//!
//! libxml2 never opens a file or a connection: its only loader is [`serve`], which returns the schema documents being
//! compiled on the same thread, and nothing else.
#![allow(unsafe_code, reason = "C is called; every block says why it is sound")]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use libloading::Library;

/// Names of the library, older ABI first. They agree in everything that is declared here.
const SONAMES: [&str; 2] = ["libxml2.so.2", "libxml2.so.16"];

/// `XML_PARSE_NONET | XML_PARSE_COMPACT | XML_PARSE_NO_XXE`; older versions ignore the last one.
const PARSE_OPTIONS: c_int = 1 << 11 | 1 << 16 | 1 << 23;

/// `XML_ERR_WARNING`.
const WARNING: c_int = 1;
/// `XML_ERR_NO_MEMORY`.
const NO_MEMORY: c_int = 2;
/// `XML_WAR_NS_URI`: reported as an error, but only for namespace names that are IRIs, which are in use.
const ODD_NAMESPACE: c_int = 99;

/// `XML_FROM_SCHEMASV`.
const VALIDATION: c_int = 17;
/// `XML_ELEMENT_NODE`.
const ELEMENT: c_int = 1;
/// `XML_ATTRIBUTE_NODE`.
const ATTRIBUTE: c_int = 2;

/// Most errors kept for one document.
pub(super) const MAX_ERRORS: usize = 20;
/// Most bytes kept of a message, each from its start and its end. The values of the document are in between.
const MAX_MESSAGE: usize = 4096;

/// An opaque struct of the library's.
type Opaque = *mut c_void;
type OnError = unsafe extern "C" fn(Opaque, *const XmlError);
type EntityLoader = unsafe extern "C" fn(*const c_char, *const c_char, Opaque) -> *mut ParserInput;

/// `xmlError`; only read through a pointer from the library.
#[repr(C)]
struct XmlError {
    domain: c_int,
    code: c_int,
    message: *const c_char,
    level: c_int,
    file: *const c_char,
    line: c_int,
    strings: [*const c_char; 3],
    int1: c_int,
    column: c_int,
    context: Opaque,
    node: Opaque,
}

/// The head of `xmlNode`, and of `xmlAttr`.
#[repr(C)]
struct Node {
    private: Opaque,
    kind: c_int,
    name: *const c_uchar,
    children: Opaque,
    last: Opaque,
    parent: *mut Node,
}

/// The head of `xmlParserInput`.
#[repr(C)]
struct ParserInput {
    buffer: Opaque,
    filename: *const c_char,
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident($($argument:ty),*) $(-> $result:ty)?;)+) => {
        /// The functions that are called, by their C names.
        #[allow(non_snake_case, reason = "these are the library's own names")]
        struct Functions { $($(#[$doc])* $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)+ }

        impl Functions {
            /// # Safety
            /// The library must be libxml2.
            unsafe fn find(library: &Library) -> Result<Self, libloading::Error> {
                // SAFETY: the signatures are those of the library's headers, the same in 2.9 and 2.15.
                Ok(Self { $($name: unsafe { *library.get(concat!(stringify!($name), "\0").as_bytes())? },)+ })
            }
        }
    };
}

functions! {
    xmlInitParser();
    /// Builds the table of built-in types, which all schemas share. Not thread-safe.
    xmlSchemaInitTypes();
    /// For the whole process.
    xmlSetExternalEntityLoader(EntityLoader);
    /// For this thread.
    xmlSetStructuredErrorFunc(Opaque, OnError);
    xmlParserInputBufferCreateMem(*const c_char, c_int, c_int) -> Opaque;
    xmlNewIOInputStream(Opaque, Opaque, c_int) -> *mut ParserInput;
    xmlStrdup(*const c_uchar) -> *mut c_uchar;

    xmlReadMemory(*const c_char, c_int, *const c_char, *const c_char, c_int) -> Opaque;
    xmlFreeDoc(Opaque);
    xmlGetIntSubset(Opaque) -> Opaque;
    xmlDocGetRootElement(Opaque) -> Opaque;
    xmlFirstElementChild(Opaque) -> Opaque;
    xmlNextElementSibling(Opaque) -> Opaque;
    xmlGetNodePath(Opaque) -> *mut c_uchar;

    xmlUnlinkNode(Opaque);
    xmlFreeNode(Opaque);

    xmlSchemaNewParserCtxt(*const c_char) -> Opaque;
    xmlSchemaSetParserStructuredErrors(Opaque, OnError, Opaque);
    xmlSchemaParse(Opaque) -> Opaque;
    xmlSchemaFreeParserCtxt(Opaque);
    xmlSchemaFree(Opaque);

    xmlSchemaNewValidCtxt(Opaque) -> Opaque;
    xmlSchemaSetValidStructuredErrors(Opaque, OnError, Opaque);
    xmlSchemaValidateOneElement(Opaque, Opaque) -> c_int;
    xmlSchemaFreeValidCtxt(Opaque);
}

/// The loaded and initialised library. There is one, and it is never unloaded: it keeps thread-local state.
pub(super) struct Libxml2 {
    functions: Functions,
    /// `xmlFree`, a variable that holds a function.
    free: unsafe extern "C" fn(Opaque),
    _library: Library,
}

static LOADED: OnceLock<Libxml2> = OnceLock::new();

/// Returns the library, and loads it if needed. An error is not cached, so installing the library and reloading is
/// enough.
pub(super) fn load() -> Result<&'static Libxml2, String> {
    if let Some(loaded) = LOADED.get() {
        return Ok(loaded);
    }
    let mut why = String::new();
    for soname in SONAMES {
        // SAFETY: libxml2 has no initialisers that do anything but set up its own state.
        match unsafe { Library::new(soname) } {
            Ok(library) => {
                let loaded = Libxml2::set_up(library).map_err(|error| format!("{soname} cannot be used: {error}"))?;
                return Ok(LOADED.get_or_init(|| loaded));
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(format!("neither {} can be loaded: {why}", SONAMES.join(" nor ")))
}

/// An error that the library reports about a document or a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LibraryError {
    /// `xmlParserErrors`.
    pub(super) code: i32,
    /// May contain values of the document.
    pub(super) message: String,
    /// Name of the schema document.
    pub(super) file: Option<String>,
    /// From 1; the library counts to 65535.
    pub(super) line: u32,
    /// From 1; 0 where it is not known.
    pub(super) column: u32,
    /// The location in the document, in the format of `xmlGetNodePath`.
    pub(super) path: Option<String>,
}

/// Why a document is not valid.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is not well-formed XML.
    Malformed(LibraryError),
    /// It violates the schema. These are the first errors, in document order.
    Invalid(Vec<LibraryError>),
    /// The library could not decide: it ran out of memory, or failed.
    Undecided,
}

/// A compiled schema.
pub(super) struct Schema {
    library: &'static Libxml2,
    schema: NonNull<c_void>,
}

// SAFETY: the library never modifies a compiled schema; each validation has its own mutable context.
unsafe impl Send for Schema {}
// SAFETY: as above.
unsafe impl Sync for Schema {}

thread_local! {
    /// Name and text of the schema documents being compiled on this thread.
    static SERVED: RefCell<Vec<(CString, String)>> = const { RefCell::new(Vec::new()) };
}

impl Libxml2 {
    fn set_up(library: Library) -> Result<Self, libloading::Error> {
        // SAFETY: the library was found by the soname of libxml2; `xmlFree` is a variable of this type in all versions.
        let (functions, free) = unsafe {
            let free: *const unsafe extern "C" fn(Opaque) = *library.get(b"xmlFree\0")?;
            (Functions::find(&library)?, *free)
        };
        // Two threads may get here at once, and initialising the library is not thread-safe.
        static SET_UP: std::sync::Once = std::sync::Once::new();
        SET_UP.call_once(|| {
            // SAFETY: `Once` runs this alone, before any other call; `serve` keeps to the contract of a loader.
            unsafe {
                (functions.xmlInitParser)();
                (functions.xmlSchemaInitTypes)();
                (functions.xmlSetExternalEntityLoader)(serve);
            }
        });
        Ok(Self { functions, free, _library: library })
    }

    /// Compiles a schema from its documents, each a name and a text; the first is the main one.
    pub(super) fn compile(&'static self, documents: Vec<(String, String)>) -> Result<Schema, Vec<LibraryError>> {
        let documents: Vec<(CString, String)> =
            documents.into_iter().filter_map(|(name, text)| Some((CString::new(name).ok()?, text))).collect();
        let Some(main) = documents.first().map(|(name, _)| name.clone()) else { return Err(Vec::new()) };
        SERVED.set(documents);
        let mut collector = ErrorCollector::new(self);
        let schema = collector.during(|context| {
            // SAFETY: the name outlives the call, the context is freed after its last use, and `context` is a collector
            // that outlives both.
            unsafe {
                let parser = (self.functions.xmlSchemaNewParserCtxt)(main.as_ptr());
                if parser.is_null() {
                    return None;
                }
                (self.functions.xmlSchemaSetParserStructuredErrors)(parser, collect_error, context);
                let schema = (self.functions.xmlSchemaParse)(parser);
                (self.functions.xmlSchemaFreeParserCtxt)(parser);
                NonNull::new(schema)
            }
        });
        SERVED.take();
        let schema = schema.map(|schema| Schema { library: self, schema });
        match schema {
            Some(schema) if collector.errors.is_empty() => Ok(schema),
            _ => Err(collector.errors),
        }
    }
}

impl Schema {
    /// Parses a document and validates the element at `steps`: a list of child positions, starting at the root.
    pub(super) fn validate(&self, text: &str, steps: Option<&[usize]>) -> Result<(), Verdict> {
        let mut collector = ErrorCollector::new(self.library);
        let document = Document::parse(&mut collector, text);
        if let Some(error) = collector.errors.drain(..).next() {
            return Err(if error.code == NO_MEMORY { Verdict::Undecided } else { Verdict::Malformed(error) });
        }
        // The guard has already rejected any DOCTYPE. If there is one now, the two parsers disagree on the document.
        let Some(document) = document.filter(|document| !document.has_doctype()) else {
            return Err(Verdict::Undecided);
        };
        let Some(steps) = steps else { return Ok(()) };
        let Some(element) = document.element(steps) else { return Err(Verdict::Undecided) };
        let functions = &self.library.functions;
        let result = collector.during(|context| {
            // SAFETY: schema, element and collector outlive the context, which is freed after its last use.
            unsafe {
                let validation = (functions.xmlSchemaNewValidCtxt)(self.schema.as_ptr());
                if validation.is_null() {
                    return -1;
                }
                (functions.xmlSchemaSetValidStructuredErrors)(validation, collect_error, context);
                let result = (functions.xmlSchemaValidateOneElement)(validation, element.as_ptr());
                (functions.xmlSchemaFreeValidCtxt)(validation);
                result
            }
        });
        match result {
            0 if collector.errors.is_empty() => Ok(()),
            _ if collector.errors.is_empty() => Err(Verdict::Undecided),
            ..0 => Err(Verdict::Undecided),
            _ => Err(Verdict::Invalid(collector.errors)),
        }
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `xmlSchemaParse`, and no validation borrows it any more.
        unsafe { (self.library.functions.xmlSchemaFree)(self.schema.as_ptr()) }
    }
}

/// A parsed document.
struct Document {
    library: &'static Libxml2,
    document: NonNull<c_void>,
}

impl Document {
    fn parse(collector: &mut ErrorCollector, text: &str) -> Option<Self> {
        let library = collector.library;
        let length = c_int::try_from(text.len()).ok()?;
        let document = collector.during(|_| {
            // SAFETY: the library copies what it reads; `length` is that of the text.
            unsafe {
                let (start, encoding) = (text.as_ptr().cast(), c"UTF-8".as_ptr());
                (library.functions.xmlReadMemory)(start, length, ptr::null(), encoding, PARSE_OPTIONS)
            }
        });
        Some(Self { library, document: NonNull::new(document)? })
    }

    fn has_doctype(&self) -> bool {
        // SAFETY: the document is alive.
        unsafe { !(self.library.functions.xmlGetIntSubset)(self.document.as_ptr()).is_null() }
    }

    fn element(&self, steps: &[usize]) -> Option<NonNull<c_void>> {
        let functions = &self.library.functions;
        // SAFETY: the document is alive, and so are the nodes of it; each is checked before it is used.
        unsafe {
            let mut element = NonNull::new((functions.xmlDocGetRootElement)(self.document.as_ptr()))?;
            for step in steps {
                element = NonNull::new((functions.xmlFirstElementChild)(element.as_ptr()))?;
                for _ in 0..*step {
                    element = NonNull::new((functions.xmlNextElementSibling)(element.as_ptr()))?;
                }
            }
            Some(element)
        }
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        // SAFETY: the document came from `xmlReadMemory`, and nothing borrows it any more.
        unsafe { (self.library.functions.xmlFreeDoc)(self.document.as_ptr()) }
    }
}

/// Collects the errors that the library reports, which would otherwise go to standard error.
///
/// The library has no way to stop a validation, and would go on to report a hundred thousand errors. So the rest of the
/// document is removed instead.
struct ErrorCollector {
    library: &'static Libxml2,
    errors: Vec<LibraryError>,
    /// The limit is reached, and the rest has been removed.
    full: bool,
    /// The removed elements, to be freed when the library has finished with the document.
    rest: Vec<Opaque>,
}

impl ErrorCollector {
    fn new(library: &'static Libxml2) -> Self {
        Self { library, errors: Vec::new(), full: false, rest: Vec::new() }
    }

    /// Removes all elements of the document after the start of this one.
    ///
    /// # Safety
    /// `node` is an element or an attribute of a document that is being validated, and the library is at it, at its
    /// element, or above it.
    unsafe fn remove_after(&mut self, node: *mut Node) {
        let functions = &self.library.functions;
        let rest = &mut self.rest;
        // SAFETY: by the contract the node is alive, and so are those above it. The library goes on from the element
        // it is at by `next` and `parent`; no element above this one is moved, so it comes to the end.
        unsafe {
            let mut take = |from: Opaque, next: unsafe extern "C" fn(Opaque) -> Opaque| {
                while let Some(element) = NonNull::new(next(from)) {
                    (functions.xmlUnlinkNode)(element.as_ptr());
                    rest.push(element.as_ptr());
                }
            };
            let mut node = node;
            if (*node).kind == ATTRIBUTE {
                node = (*node).parent;
            }
            if node.is_null() || (*node).kind != ELEMENT {
                return;
            }
            take(node.cast(), functions.xmlFirstElementChild);
            while !node.is_null() && (*node).kind == ELEMENT {
                take(node.cast(), functions.xmlNextElementSibling);
                node = (*node).parent;
            }
        }
    }

    /// Collects errors while `call` runs, and passes it the pointer that [`collect_error`] expects.
    fn during<T>(&mut self, call: impl FnOnce(Opaque) -> T) -> T {
        let set = self.library.functions.xmlSetStructuredErrorFunc;
        let context: Opaque = ptr::from_mut(self).cast();
        // SAFETY: the collector outlives `call`; after it, errors of this thread are dropped.
        unsafe { set(context, collect_error) };
        let result = call(context);
        // SAFETY: as above. Removed elements are freed while the document is alive, and nothing refers to them.
        unsafe {
            set(ptr::null_mut(), collect_error);
            for element in self.rest.drain(..) {
                (self.library.functions.xmlFreeNode)(element);
            }
        }
        result
    }
}

/// Records an error.
///
/// # Safety
/// `context` is a live [`ErrorCollector`] or null; `error` is null or as the library gives it.
unsafe extern "C" fn collect_error(context: Opaque, error: *const XmlError) {
    // SAFETY: by the contract; the library calls on the thread that [`ErrorCollector::during`] runs on.
    let (Some(collector), Some(error)) =
        (unsafe { context.cast::<ErrorCollector>().as_mut() }, unsafe { error.as_ref() })
    else {
        return;
    };
    if error.level <= WARNING || error.code == ODD_NAMESPACE || collector.full {
        return;
    }
    let library = collector.library;
    let path = (!error.node.is_null()).then(|| {
        // SAFETY: the node of an error is alive while the error is reported, and we own the path.
        unsafe {
            let path = (library.functions.xmlGetNodePath)(error.node);
            let words = words(path.cast());
            (library.free)(path.cast());
            words
        }
    });
    // SAFETY: strings of an error are null or end with a NUL.
    let (message, file) = unsafe { (words(error.message), words(error.file)) };
    collector.errors.push(LibraryError {
        code: error.code,
        message: message.unwrap_or_default(),
        file,
        line: u32::try_from(error.line).unwrap_or_default(),
        column: u32::try_from(error.column).unwrap_or_default(),
        path: path.flatten(),
    });
    if collector.errors.len() >= MAX_ERRORS {
        collector.full = true;
        if error.domain == VALIDATION && !error.node.is_null() {
            // SAFETY: errors of this domain are reported during validation, for the current element or a key below.
            unsafe { collector.remove_after(error.node.cast()) }
        }
    }
}

/// Copies a string of the library, leaving out the middle if it is very long.
///
/// # Safety
/// `string` is null, or ends with a NUL.
unsafe fn words(string: *const c_char) -> Option<String> {
    if string.is_null() {
        return None;
    }
    // SAFETY: by the contract.
    let bytes = unsafe { CStr::from_ptr(string) }.to_bytes();
    let (head, rest) = bytes.split_at(bytes.len().min(MAX_MESSAGE));
    let tail = rest.get(rest.len().saturating_sub(MAX_MESSAGE)..).unwrap_or_default();
    Some(String::from_utf8_lossy(&[head, tail].concat()).trim_end().to_owned())
}

/// Loads a schema document that is being compiled on this thread; nothing else can be loaded.
///
/// # Safety
/// Must only be called by the library, with strings that are null or end with a NUL.
unsafe extern "C" fn serve(name: *const c_char, _id: *const c_char, context: Opaque) -> *mut ParserInput {
    let Some(library) = LOADED.get() else { return ptr::null_mut() };
    if name.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: by the contract.
    let name = unsafe { CStr::from_ptr(name) };
    let serve = |served: &RefCell<Vec<(CString, String)>>| {
        let served = served.try_borrow().ok()?;
        let (name, text) = served.iter().find(|(known, _)| known.as_c_str() == name)?;
        let length = c_int::try_from(text.len()).ok()?;
        // SAFETY: the library copies the text and the name; the input takes over the buffer, and frees the name.
        unsafe {
            let buffer = (library.functions.xmlParserInputBufferCreateMem)(text.as_ptr().cast(), length, 0);
            let input = NonNull::new((library.functions.xmlNewIOInputStream)(context, buffer, 0))?;
            (*input.as_ptr()).filename = (library.functions.xmlStrdup)(name.as_ptr().cast()).cast();
            Some(input.as_ptr())
        }
    };
    SERVED.try_with(serve).ok().flatten().unwrap_or(ptr::null_mut())
}

//! libxml2, which judges XML by XSD 1.0: the functions of it that we call, and safe values over them.
//!
//! It is loaded when a policy first has an XML schema, so that a build needs no C headers and a host without XML no
//! libxml2. This is the only file with `unsafe`. It keeps to functions and leading struct fields that 2.9 to 2.15 share.
//!
//! It never opens a file or a connection: the one way it has to fetch anything is [`serve`], which knows the schema
//! documents being compiled on the same thread, and nothing else.
#![allow(unsafe_code, reason = "C is called; every block says why it is sound")]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use libloading::Library;

/// Names of the library, older ABI first: they are alike in all that is declared here.
const SONAMES: [&str; 2] = ["libxml2.so.2", "libxml2.so.16"];

/// `XML_PARSE_NONET | XML_PARSE_COMPACT | XML_PARSE_NO_XXE`; older versions do not know the last, and ignore it.
const PARSE_OPTIONS: c_int = 1 << 11 | 1 << 16 | 1 << 23;

/// `XML_ERR_WARNING`.
const WARNING: c_int = 1;
/// `XML_ERR_NO_MEMORY`.
const NO_MEMORY: c_int = 2;
/// `XML_WAR_NS_URI`: told as an error, but about names of namespaces that are IRIs rather than URIs, which people use.
const ODD_NAMESPACE: c_int = 99;

/// `XML_FROM_SCHEMASV`.
const VALIDATION: c_int = 17;
/// `XML_ELEMENT_NODE`.
const ELEMENT: c_int = 1;
/// `XML_ATTRIBUTE_NODE`.
const ATTRIBUTE: c_int = 2;

/// Most complaints kept of one document.
pub(super) const MAX_COMPLAINTS: usize = 20;
/// Most bytes kept of a message, from its start and from its end; in between stands what came.
const MAX_MESSAGE: usize = 4096;

/// An opaque struct of the library's.
type Opaque = *mut c_void;
type OnError = unsafe extern "C" fn(Opaque, *const XmlError);
type EntityLoader = unsafe extern "C" fn(*const c_char, *const c_char, Opaque) -> *mut ParserInput;

/// `xmlError`; it is only ever read behind a pointer that the library gives.
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
        /// What is called, by the names it has in C.
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
    /// Makes the table of built-in types, which all schemas share; not safe to do on two threads at once.
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

/// The library, loaded and set up. There is one, and it is never unloaded: threads hold state of its own.
pub(super) struct Libxml2 {
    functions: Functions,
    /// `xmlFree`, a variable that holds a function.
    free: unsafe extern "C" fn(Opaque),
    _library: Library,
}

static LOADED: OnceLock<Libxml2> = OnceLock::new();

/// Loads the library, or returns it. The error is in words; it is not remembered, so installing the library and
/// reloading is enough.
pub(super) fn load() -> Result<&'static Libxml2, String> {
    if let Some(loaded) = LOADED.get() {
        return Ok(loaded);
    }
    let mut why = String::new();
    for soname in SONAMES {
        // SAFETY: libxml2 has no initialisers that do anything but set up its own state.
        match unsafe { Library::new(soname) } {
            Ok(library) => {
                let loaded = Libxml2::set_up(library).map_err(|error| format!("{soname} is not usable: {error}"))?;
                return Ok(LOADED.get_or_init(|| loaded));
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(format!("neither {} can be loaded: {why}", SONAMES.join(" nor ")))
}

/// What the library says of a document or a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    /// `xmlParserErrors`.
    pub(super) code: i32,
    /// Its words; they hold values of the document.
    pub(super) message: String,
    /// Name of the schema document.
    pub(super) file: Option<String>,
    /// From 1; the library counts to 65535.
    pub(super) line: u32,
    /// From 1; 0 where it is not known.
    pub(super) column: u32,
    /// Where in the document, as `xmlGetNodePath` says it.
    pub(super) path: Option<String>,
}

/// Why a document is not valid.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is not well-formed XML.
    Malformed(Complaint),
    /// It breaks the schema; the first of what is wrong with it, in order.
    Invalid(Vec<Complaint>),
    /// The library has no verdict: memory ran out, or it broke.
    Undecided,
}

/// A compiled schema.
pub(super) struct Schema {
    library: &'static Libxml2,
    schema: NonNull<c_void>,
}

// SAFETY: the library reads a compiled schema and does not change it; what changes is in the context of each validation.
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
        // Two threads may come here at once, and the set-up of the library is not safe for that.
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

    /// Compiles a schema from its documents, name and text of each; the first is the one to begin with.
    pub(super) fn compile(&'static self, documents: Vec<(String, String)>) -> Result<Schema, Vec<Complaint>> {
        let documents: Vec<(CString, String)> =
            documents.into_iter().filter_map(|(name, text)| Some((CString::new(name).ok()?, text))).collect();
        let Some(main) = documents.first().map(|(name, _)| name.clone()) else { return Err(Vec::new()) };
        SERVED.set(documents);
        let mut listener = Listener::new(self);
        let schema = listener.during(|context| {
            // SAFETY: the name outlives the call, the context is freed after its last use, and `context` is a listener
            // that outlives both.
            unsafe {
                let parser = (self.functions.xmlSchemaNewParserCtxt)(main.as_ptr());
                if parser.is_null() {
                    return None;
                }
                (self.functions.xmlSchemaSetParserStructuredErrors)(parser, listen, context);
                let schema = (self.functions.xmlSchemaParse)(parser);
                (self.functions.xmlSchemaFreeParserCtxt)(parser);
                NonNull::new(schema)
            }
        });
        SERVED.take();
        let schema = schema.map(|schema| Schema { library: self, schema });
        match schema {
            Some(schema) if listener.heard.is_empty() => Ok(schema),
            _ => Err(listener.heard),
        }
    }
}

impl Schema {
    /// Parses a document, and judges the element that `steps` lead to: from the root, each the position of a child.
    pub(super) fn validate(&self, text: &str, steps: Option<&[usize]>) -> Result<(), Verdict> {
        let mut listener = Listener::new(self.library);
        let document = Document::parse(&mut listener, text);
        if let Some(complaint) = listener.heard.drain(..).next() {
            return Err(if complaint.code == NO_MEMORY { Verdict::Undecided } else { Verdict::Malformed(complaint) });
        }
        // The guard before us has seen no DOCTYPE; were there one, the two would not have read the same document.
        let Some(document) = document.filter(|document| !document.has_doctype()) else {
            return Err(Verdict::Undecided);
        };
        let Some(steps) = steps else { return Ok(()) };
        let Some(element) = document.element(steps) else { return Err(Verdict::Undecided) };
        let functions = &self.library.functions;
        let result = listener.during(|context| {
            // SAFETY: schema, element and listener outlive the context, which is freed after its last use.
            unsafe {
                let validation = (functions.xmlSchemaNewValidCtxt)(self.schema.as_ptr());
                if validation.is_null() {
                    return -1;
                }
                (functions.xmlSchemaSetValidStructuredErrors)(validation, listen, context);
                let result = (functions.xmlSchemaValidateOneElement)(validation, element.as_ptr());
                (functions.xmlSchemaFreeValidCtxt)(validation);
                result
            }
        });
        match result {
            0 if listener.heard.is_empty() => Ok(()),
            _ if listener.heard.is_empty() => Err(Verdict::Undecided),
            ..0 => Err(Verdict::Undecided),
            _ => Err(Verdict::Invalid(listener.heard)),
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
    fn parse(listener: &mut Listener, text: &str) -> Option<Self> {
        let library = listener.library;
        let length = c_int::try_from(text.len()).ok()?;
        let document = listener.during(|_| {
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

/// Hears what the library complains of, which would else go to standard error.
///
/// There is no way to tell the library that enough is enough, and it would go on to find a hundred thousand things wrong
/// and word them all. So the rest of the document is taken out from before it.
struct Listener {
    library: &'static Libxml2,
    heard: Vec<Complaint>,
    /// The rest has been taken out.
    enough: bool,
    /// What has been taken out, to be freed when the library no longer looks at the document.
    rest: Vec<Opaque>,
}

impl Listener {
    fn new(library: &'static Libxml2) -> Self {
        Self { library, heard: Vec::new(), enough: false, rest: Vec::new() }
    }

    /// Takes out all elements of the document that come after the start of this one.
    ///
    /// # Safety
    /// `node` is an element or an attribute of a document that is being validated, and the library is at it, at its
    /// element, or above it.
    unsafe fn take_out_after(&mut self, node: *mut Node) {
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

    /// Listens while `call` runs; it is given the pointer that [`listen`] takes.
    fn during<T>(&mut self, call: impl FnOnce(Opaque) -> T) -> T {
        let set = self.library.functions.xmlSetStructuredErrorFunc;
        let context: Opaque = ptr::from_mut(self).cast();
        // SAFETY: the listener outlives `call`; after it, this thread's complaints go to nobody.
        unsafe { set(context, listen) };
        let result = call(context);
        // SAFETY: as above. What was taken out of a document is freed while the document lives, and nothing leads to it.
        unsafe {
            set(ptr::null_mut(), listen);
            for element in self.rest.drain(..) {
                (self.library.functions.xmlFreeNode)(element);
            }
        }
        result
    }
}

/// Keeps a complaint.
///
/// # Safety
/// `context` is a live [`Listener`] or null; `error` is null or as the library gives it.
unsafe extern "C" fn listen(context: Opaque, error: *const XmlError) {
    // SAFETY: by the contract; the library calls on the thread that [`Listener::during`] runs on, so nobody else has it.
    let (Some(listener), Some(error)) = (unsafe { context.cast::<Listener>().as_mut() }, unsafe { error.as_ref() })
    else {
        return;
    };
    if error.level <= WARNING || error.code == ODD_NAMESPACE || listener.enough {
        return;
    }
    let library = listener.library;
    let path = (!error.node.is_null()).then(|| {
        // SAFETY: the node of an error is alive while the error is told, and the path is ours to free.
        unsafe {
            let path = (library.functions.xmlGetNodePath)(error.node);
            let words = words(path.cast());
            (library.free)(path.cast());
            words
        }
    });
    // SAFETY: strings of an error are null or end with a NUL.
    let (message, file) = unsafe { (words(error.message), words(error.file)) };
    listener.heard.push(Complaint {
        code: error.code,
        message: message.unwrap_or_default(),
        file,
        line: u32::try_from(error.line).unwrap_or_default(),
        column: u32::try_from(error.column).unwrap_or_default(),
        path: path.flatten(),
    });
    if listener.heard.len() >= MAX_COMPLAINTS {
        listener.enough = true;
        if error.domain == VALIDATION && !error.node.is_null() {
            // SAFETY: complaints of this domain are told while the document is validated, about where the library is, or
            // about a key below it.
            unsafe { listener.take_out_after(error.node.cast()) }
        }
    }
}

/// A string of the library's, without the middle of a very long one.
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

/// Gives the library a schema document that is being compiled on this thread; everything else does not exist.
///
/// # Safety
/// It is called by the library alone, with strings that are null or end with a NUL.
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

"""Pieces of pickles that would run code, write, connect or fill the memory, were they unpickled.

Each is the opcodes that leave one object on the stack, in protocol 2 where they need no later one,
so that it can stand for any object of a pickle.
"""

import struct
from pathlib import Path


def named(module: str, name: str) -> bytes:
    """Look a global up."""
    return f"c{module}\n{name}\n".encode()


def stacked(module: str, name: str) -> bytes:
    """Look a global up as protocol 4 does, whose names may have dots."""
    return text(module) + text(name) + b"\x93"


def text(value: str) -> bytes:
    """Push a text."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def raw(value: bytes) -> bytes:
    """Push bytes, as protocol 3 does."""
    return b"B" + struct.pack("<I", len(value)) + value


def number(value: int) -> bytes:
    """Push a whole number."""
    size = (value.bit_length() + 8) // 8
    return b"\x8b" + struct.pack("<i", size) + value.to_bytes(size, "little", signed=True)


def items(*parts: bytes) -> bytes:
    """Push a tuple."""
    return b"(" + b"".join(parts) + b"t"


def listed(*parts: bytes) -> bytes:
    """Push a list."""
    return b"](" + b"".join(parts) + b"e"


def mapping(**parts: bytes) -> bytes:
    """Push a dictionary."""
    return b"}(" + b"".join(text(key) + value for key, value in parts.items()) + b"u"


def call(function: bytes, *arguments: bytes) -> bytes:
    """Call a function (REDUCE)."""
    return function + items(*arguments) + b"R"


def build(thing: bytes, state: bytes) -> bytes:
    """Give an object its state (BUILD)."""
    return thing + state + b"b"


def whole(payload: bytes) -> bytes:
    """Return a pickle of one object."""
    return b"\x80\x02" + payload + b"."


NONE, TRUE, ONE, EMPTY = b"N", b"\x88", b"K\x01", b"}"
OS_SYSTEM = named("os", "system")
ORDERED = call(named("collections", "OrderedDict"))
REBUILD = named("torch._utils", "_rebuild_tensor_v2")


def calls(canary: Path) -> dict[str, bytes]:
    """Return payloads that call something; they are refused in a line that names what.

    Args:
        canary: a file that most of them would make; some would run ``evil.pkl`` beside it.

    Returns:
        The global that is named, a comment after it where there are several, to the payload.
    """
    made = str(canary)
    command, code = text(f"touch {made}"), text(f"open({made!r}, 'w').close()")
    path, argv = text(made), listed(text("touch"), text(made))
    get, imported = named("builtins", "getattr"), named("builtins", "__import__")
    evil, beside = whole(call(OS_SYSTEM, command)), text(str(canary.with_name("evil.pkl")))
    return {
        # processes
        "os.system": call(OS_SYSTEM, command),
        "posix.system": call(named("posix", "system"), command),
        "nt.system": call(named("nt", "system"), command),
        "os.popen": call(named("os", "popen"), command),
        "os.execvp": call(named("os", "execvp"), text("touch"), argv),
        "os.fork": call(named("os", "fork")),
        "os.spawnlp": call(named("os", "spawnlp"), ONE, text("touch"), text("touch"), path),
        "subprocess.Popen": call(named("subprocess", "Popen"), argv),
        "subprocess.getoutput": call(named("subprocess", "getoutput"), command),
        "subprocess.check_output": call(named("subprocess", "check_output"), argv),
        "pty.spawn": call(named("pty", "spawn"), argv),
        "platform.popen": call(named("platform", "popen"), command),
        "commands.getoutput": call(named("commands", "getoutput"), command),
        "multiprocessing.Process": call(named("multiprocessing", "Process"), NONE, OS_SYSTEM),
        "asyncio.run": call(named("asyncio", "run"), command),
        "threading.Timer": call(named("threading", "Timer"), ONE, OS_SYSTEM, items(command)),
        "atexit.register": call(named("atexit", "register"), OS_SYSTEM, command),
        "signal.signal": call(named("signal", "signal"), ONE, OS_SYSTEM),
        # text that is run
        "builtins.eval": call(named("builtins", "eval"), code),
        "__builtin__.eval": call(named("__builtin__", "eval"), code),
        "builtins.exec": call(named("builtins", "exec"), code),
        "builtins.compile": call(
            named("builtins", "exec"),
            call(named("builtins", "compile"), code, text("x"), text("exec")),
        ),
        "builtins.__import__": call(call(get, call(imported, text("os")), text("system")), command),
        "builtins.getattr": call(call(get, named("os", "path"), text("os")), command),
        "importlib.import_module": call(
            named("importlib", "import_module"), text("antigravity")
        ),
        "runpy.run_path": call(named("runpy", "run_path"), path),
        "runpy._run_code": call(named("runpy", "_run_code"), code, EMPTY),
        "pdb.run": call(named("pdb", "run"), code),
        "bdb.Bdb": call(named("bdb", "Bdb")),
        "timeit.timeit": call(named("timeit", "timeit"), code),
        "cProfile.run": call(named("cProfile", "run"), code),
        "profile.Profile": call(named("profile", "Profile")),
        "code.interact": call(named("code", "interact")),
        "doctest.debug_script": call(named("doctest", "debug_script"), code),
        "marshal.loads": call(named("marshal", "loads"), raw(b"c")),
        "types.FunctionType": call(named("types", "FunctionType"), NONE, EMPTY),
        "types.CodeType": call(named("types", "CodeType"), ONE),
        # chains
        "functools.partial": build(
            call(named("functools", "partial"), OS_SYSTEM),
            items(OS_SYSTEM, items(command), EMPTY, NONE),
        ),
        "functools.reduce": call(named("functools", "reduce"), OS_SYSTEM, listed(command, ONE)),
        "builtins.map": call(named("builtins", "map"), OS_SYSTEM, listed(command)),
        "builtins.list": call(named("builtins", "list"), named("os", "environ")),
        "itertools.starmap": call(named("itertools", "starmap"), OS_SYSTEM, listed(command)),
        "operator.methodcaller": call(
            call(named("operator", "methodcaller"), text("system"), command), named("os", "path")
        ),
        "operator.attrgetter": call(call(named("operator", "attrgetter"), text("system")), ONE),
        "builtins.property": call(named("builtins", "property"), OS_SYSTEM),
        "builtins.setattr": call(named("builtins", "setattr"), OS_SYSTEM, text("x"), ONE),
        "builtins.globals": call(named("builtins", "globals")),
        "builtins.type": call(named("builtins", "type"), text("X"), b")", EMPTY),
        "sys.setprofile": call(named("sys", "setprofile"), OS_SYSTEM),
        "sys.modules.clear": call(stacked("sys", "modules.clear")),
        "collections.OrderedDict.fromkeys": call(
            stacked("collections", "OrderedDict.fromkeys"), listed(command)
        ),
        "torch.hub.os.system": call(stacked("torch", "hub.os.system"), command),
        "pathlib.os.system": call(stacked("pathlib", "os.system"), command),
        "datetime.sys.settrace": call(stacked("datetime", "sys.settrace"), OS_SYSTEM),
        "numpy.os.system": call(stacked("numpy", "os.system"), command),
        # torch's and NumPy's own loaders
        "torch.load": call(named("torch", "load"), beside),
        "torch.serialization.load": call(named("torch.serialization", "load"), beside),
        "torch.jit.load": call(named("torch.jit", "load"), path),
        "torch.hub.load": call(named("torch.hub", "load"), text("x/y"), text("z")),
        "torch.ops.load_library": call(named("torch.ops", "load_library"), path),
        "torch.classes.load_library": call(named("torch.classes", "load_library"), path),
        "torch.utils.cpp_extension.load": call(
            named("torch.utils.cpp_extension", "load"), text("x"), path
        ),
        "torch.save": call(named("torch", "save"), ONE, path),
        "torch.from_file": call(named("torch", "from_file"), path, TRUE, ONE),
        "torch.UntypedStorage.from_file": call(
            stacked("torch", "UntypedStorage.from_file"), path, TRUE, ONE
        ),
        "torch._tensor._rebuild_from_type_v2": call(
            named("torch._tensor", "_rebuild_from_type_v2"), OS_SYSTEM, ONE, items(command), NONE
        ),
        "torch._utils._rebuild_wrapper_subclass": call(
            named("torch._utils", "_rebuild_wrapper_subclass"), OS_SYSTEM
        ),
        "torch.fx.graph_module.reduce_graph_module": call(
            named("torch.fx.graph_module", "reduce_graph_module"), mapping(_code=code), code
        ),
        "torch._dynamo.disable": call(named("torch._dynamo", "disable"), OS_SYSTEM),
        "os.system # in torch.storage._load_from_bytes": call(
            named("torch.storage", "_load_from_bytes"), raw(evil)
        ),
        "numpy.load": call(named("numpy", "load"), beside, NONE, TRUE),
        "numpy.fromfile": call(named("numpy", "fromfile"), path),
        "numpy.memmap": call(named("numpy", "memmap"), path, text("u1"), text("w+"), ONE, ONE),
        "numpy.savetxt": call(named("numpy", "savetxt"), path, listed(ONE)),
        "numpy.f2py.compile": call(named("numpy.f2py", "compile"), code),
        "numpy.testing._private.utils.runstring": call(
            named("numpy.testing._private.utils", "runstring"), code, EMPTY
        ),
        "os.system # in an object array": build(
            call(
                named("numpy.core.multiarray", "_reconstruct"),
                named("numpy", "ndarray"), items(b"K\x00"), text("b"),
            ),
            items(ONE, items(ONE), call(named("numpy", "dtype"), text("O8")), b"\x89",
                  listed(call(OS_SYSTEM, command))),
        ),
        "joblib.load": call(named("joblib", "load"), path),
        "dill._dill._create_function": call(named("dill._dill", "_create_function"), code),
        "cloudpickle.cloudpickle._make_function": call(
            named("cloudpickle.cloudpickle", "_make_function"), code
        ),
        "pickle.loads": call(named("pickle", "loads"), raw(evil)),
        "_pickle.Unpickler": call(named("_pickle", "Unpickler"), raw(evil)),
        "yaml.unsafe_load": call(named("yaml", "unsafe_load"), code),
        # files, libraries, the net
        "builtins.open": call(named("builtins", "open"), path, text("w")),
        "io.open": call(named("io", "open"), path, text("w")),
        "codecs.open": call(named("codecs", "open"), path, text("w")),
        "pathlib.Path.write_text": call(
            stacked("pathlib", "Path.write_text"), call(named("pathlib", "Path"), path), code
        ),
        "pathlib.Path.unlink": call(stacked("pathlib", "Path.unlink"), beside),
        "os.remove": call(named("os", "remove"), beside),
        "shutil.rmtree": call(named("shutil", "rmtree"), text(str(canary.parent))),
        "shutil.copyfile": call(named("shutil", "copyfile"), beside, path),
        "tempfile.mkstemp": call(named("tempfile", "mkstemp")),
        "logging.FileHandler": call(named("logging", "FileHandler"), path),
        "logging.config.dictConfig": call(
            named("logging.config", "dictConfig"),
            mapping(version=ONE, formatters=mapping(x=mapping(**{"()": OS_SYSTEM}))),
        ),
        "zipfile.ZipFile": call(named("zipfile", "ZipFile"), path, text("w")),
        "sqlite3.connect": call(named("sqlite3", "connect"), path),
        "shelve.open": call(named("shelve", "open"), path),
        "ctypes.CDLL": call(named("ctypes", "CDLL"), NONE),
        "ctypes.string_at": call(named("ctypes", "string_at"), ONE),
        "socket.create_connection": call(
            named("socket", "create_connection"), items(text("127.0.0.1"), number(9))
        ),
        "urllib.request.urlopen": call(
            named("urllib.request", "urlopen"), text("http://127.0.0.1:9/")
        ),
        "http.client.HTTPConnection": call(
            named("http.client", "HTTPConnection"), text("127.0.0.1")
        ),
        "ftplib.FTP": call(named("ftplib", "FTP"), text("127.0.0.1")),
        "webbrowser.open": call(named("webbrowser", "open"), text("http://127.0.0.1:9/")),
        "antigravity.geohash": call(named("antigravity", "geohash"), ONE, ONE, raw(b"x")),
        # other opcodes, and classes that only the file knows
        "os.system # INST": b"(" + command + b"ios\nsystem\n",
        "os.system # OBJ": b"(" + OS_SYSTEM + command + b"o",
        "__torch__.Evil": call(named("__torch__", "Evil"), command),
        "<torch_package_0>.evil.Evil": call(named("<torch_package_0>.evil", "Evil"), command),
        "__main__.Evil": call(named("__main__", "Evil"), command),
        "os.system # in a state": build(
            call(named("copyreg", "_reconstructor"), named("project", "Config"),
                 named("builtins", "object"), NONE),
            mapping(x=call(OS_SYSTEM, command)),
        ),
    }  # fmt: skip


def mentions(canary: Path) -> dict[str, bytes]:
    """Return payloads that look a dangerous thing up, or give it to what is never built.

    They are read over, and named among what was skipped.
    """
    command = text(f"touch {canary}")
    return {
        "os.system": OS_SYSTEM,
        "collections.defaultdict": call(named("collections", "defaultdict"), OS_SYSTEM),
        "project.Config": build(
            call(named("copyreg", "_reconstructor"), named("project", "Config"),
                 named("builtins", "object"), NONE),
            mapping(__reduce__=OS_SYSTEM, __class__=OS_SYSTEM, values=command),
        ),
        "project.Mapping": (
            named("project", "Mapping") + b")\x81" + b"(" + text("x") + command + b"u"
        ),
        "project.List": named("project", "List") + b")\x81" + b"(" + command + b"e",
        "argparse.Namespace": build(
            named("argparse", "Namespace") + b")\x81", mapping(values=OS_SYSTEM, model=OS_SYSTEM)
        ),
        "os.popen": named("os", "popen") + items(command) + b"\x81",
        "io.FileIO": named("io", "FileIO") + items(text(str(canary)), text("w")) + b"\x81",
        "subprocess.Popen": named("subprocess", "Popen") + b")" + mapping(args=command) + b"\x92",
        "pathlib.PosixPath": call(named("pathlib", "PosixPath"), text(str(canary))),
        "numpy.core.multiarray._reconstruct": build(
            call(named("numpy.core.multiarray", "_reconstruct"), OS_SYSTEM, ONE, ONE),
            items(ONE, items(ONE), call(named("numpy", "dtype"), text("O8")), NONE, listed(NONE)),
        ),
    }  # fmt: skip


def tricks(canary: Path) -> dict[str, bytes]:
    """Return payloads that turn what is built as it is against its reader; they are refused."""
    persistent = items(text("module"), REBUILD, text("a"), text("b")) + b"Q"
    renamed = mapping(__name__=text(str(canary)), dump_patches=TRUE)
    function = build(REBUILD, items(NONE, renamed))
    # of text that torch makes, so it is an old pickle's
    storage = items(text("storage"), OS_SYSTEM, text("0"), text("cpu"), ONE) + b"Q"
    huge = number(1 << 40)
    plain = [named("collections", "OrderedDict"), named("torch", "Size"), named("torch", "device"),
             named("torch.storage", "_load_from_bytes"), named("_codecs", "encode"),
             named("numpy", "dtype"), named("numpy.core.multiarray", "scalar"),
             named("numpy.core.multiarray", "_reconstruct")]  # fmt: skip
    return {
        "a function renamed": function,
        "a patch written": items(function, persistent),
        "a persistent text": b"P0\n",
        "a module": persistent,
        "a storage of a function": storage,
        "a mapping's items": build(ORDERED, mapping(items=OS_SYSTEM, keys=OS_SYSTEM)),
        "a mapping's iterator": build(ORDERED, items(NONE, mapping(values=REBUILD))),
        "an item of a class": named("os", "environ") + text("x") + text("y") + b"s",
        "an extension": b"\x82\x01",
        "bytes": call(named("builtins", "bytearray"), huge),
        "bytes without end": call(named("builtins", "bytearray"), number(1 << 70)),
        "a wide number": b"\x8b" + struct.pack("<i", 0x7FFFFFFF),
        "a wide text": b"X" + struct.pack("<I", 0xFFFFFFFF),
        "wide bytes": b"\x8e" + struct.pack("<Q", 1 << 62),
        "a far place": ONE + b"r" + struct.pack("<I", 0xFFFFFFFF),
        "a tensor of no storage": call(REBUILD, ONE, ONE, items(huge), items(ONE), TRUE, ORDERED),
        "encoded": call(named("_codecs", "encode"), text("x"), text("zlib")),
        "a deep list": b"]" * 50_000 + b"a" * 49_999,
        "a deep tuple": b")" + b"\x85" * 100_000,
        **{f"a class's state: {thing.split()[1].decode()}": build(thing, items(NONE, renamed))
           for thing in plain},
    }  # fmt: skip

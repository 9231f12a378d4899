"""Files made wrong in ways that their own format allows: other values, not only other bytes."""

from __future__ import annotations

import copy
import gzip
import io
import json
import pickle
import random
import sqlite3
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numcodecs.blosc import Blosc
from pyarrow import feather
from pyarrow import parquet as pq

from data_tools.formats.tfrecord import masked_crc
from data_tools.sources.waymo_proto import Scenario
from tests.support.mutation_sqlite import changed_database

WEIRD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 0.5, 1e6, -1e6, 9e6, 1e9, 1e15, -1e300, 1e308, 5e-324, 2**31, 2**53),
    *(2**63, -(2**63), 2**64, 10**30, 10**400, float("nan"), float("inf"), -float("inf")),
    *("", "x", "0", "nan", "\ud800", "\x00", "A" * 1000, [], {}, [[]], [None], {"x": 1.0}),
)
TOKENS = (
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1e6",
    "9e6",
    "1e308",
    "1e400",
    "9" * 30,
    "x",
    "é",
    '"',
    "\0",
)
NUMBERS = tuple(float(v) for v in TOKENS if v.lower() in ("nan", "inf") or v[:1].isdigit())


def mutated(path: Path, chance: random.Random) -> bytes:
    """What the file may hold after damage; by its own format three times out of four."""
    content = path.read_bytes()
    if chance.random() < 0.25:
        return changed_bytes(content, chance)
    try:
        with np.errstate(all="ignore"):  # numbers that do not fit are the point
            return _by_format(path.name, content, chance)
    except (
        *(ArithmeticError, RuntimeError, ValueError, TypeError),
        *(pa.ArrowException, sqlite3.Error),
    ):
        # It cannot be written so, or is of no such format.
        return changed_bytes(content, chance)


def _by_format(  # noqa: C901 - one case a format, and no other decision
    name: str, content: bytes, chance: random.Random
) -> bytes:
    match name.rpartition(".")[2]:
        case "gz":
            inner = _by_format(name.removesuffix(".gz"), gzip.decompress(content), chance)
            return gzip.compress(inner, 1)
        case "json" | "geojson" | "zarray" | "zattrs" | "zgroup":
            text = json.dumps(changed_tree(json.loads(content), chance), ensure_ascii=True)
            return text.encode("utf-8", "surrogatepass")
        case "xml" | "osm":
            return changed_xml(content, chance)
        case "feather" | "arrow":
            table = changed_table(feather.read_table(pa.BufferReader(content)), chance)
            return _written(feather.write_feather, table, compression=_codec(chance, "lz4"))
        case "parquet":
            table = changed_table(pq.read_table(pa.BufferReader(content)), chance)
            return _written(pq.write_table, table, compression=_codec(chance, "snappy"))
        case "csv" | "txt":
            return changed_text(content.decode(), chance).encode("utf-8", "surrogatepass")
        case "pkl":
            return pickle.dumps(changed_tree(pickle.loads(content), chance))
        case "npy":
            buffer = io.BytesIO()
            np.save(buffer, changed_array(np.load(io.BytesIO(content)), chance))
            return buffer.getvalue()
        case "tfrecord":
            return _changed_record(content, chance)
        case "db" | "gpkg":
            return changed_database(content, chance)
        case number if number.isdigit():  # a chunk of zarr v2
            return bytes(Blosc().encode(changed_bytes(bytes(Blosc().decode(content)), chance)))
    return changed_bytes(content, chance)


def changed_bytes(content: bytes, chance: random.Random) -> bytes:
    """Cut off, flipped, copied, moved, or with numbers that matter put in."""
    made = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(made) + 1)
        size = chance.choice((1, 2, 4, 8, 8, 64, 1000))
        match chance.randrange(7):
            case 0:
                made[at : at + 1] = bytes([chance.randrange(256)])
            case 1 if at < len(made):
                made[at] ^= 1 << chance.randrange(8)
            case 2:
                del made[at : at + size]
            case 3:
                other = chance.randrange(len(made) + 1)
                made[at : at + size] = made[other : other + size]
            case 4:
                other = chance.randrange(len(made) + 1)
                made[at:at] = made[other : other + size]
            case 5:
                number = chance.choice((0, 1, -1, 2**31 - 1, -(2**31), 2**62, 2**40, 0xFFFF))
                kind = chance.choice((4, 8))
                made[at : at + kind] = (number % 2 ** (8 * kind)).to_bytes(kind, "little")
            case _ if chance.random() < 0.2:
                del made[at:]
    return bytes(made)


def changed_tree(tree: Any, chance: random.Random) -> Any:
    """Nested lists, dictionaries and arrays with a few places made something else."""
    root = [copy.deepcopy(tree)]
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        holder, key = _place(root, chance)
        _change_place(root, holder, key, chance)
    return root[0]


def _place(root: list[Any], chance: random.Random) -> tuple[Any, Any]:
    holder: Any = root
    key: Any = 0
    while chance.random() < 0.85:
        inside = holder[key]
        if isinstance(inside, dict) and inside:
            holder, key = inside, chance.choice(list(inside))
        elif isinstance(inside, list) and inside:
            holder, key = inside, chance.randrange(len(inside))
        else:
            break
    return holder, key


def _change_place(  # noqa: C901 - one case a way of changing, and no other decision
    root: list[Any], holder: Any, key: Any, chance: random.Random
) -> None:
    value = holder[key]
    match chance.randrange(9):
        case 0 if holder is not root:
            del holder[key]
        case 1 if isinstance(value, list):
            holder[key] = value * chance.choice((0, 2, 50))
        case 1 if isinstance(value, dict):
            holder[key] = list(value.values())
        case 2 if isinstance(value, list):
            holder[key] = value[: chance.randrange(len(value) + 1)]
        case 3 if isinstance(value, list):
            holder[key] = value[::-1]
        case 3 if isinstance(holder, dict):
            holder[chance.choice(("", "x", "\ud800", str(key) + " "))] = holder.pop(key)
        case 4:
            other, place = _place(root, chance)
            holder[key] = copy.deepcopy(other[place])
        case 5 if isinstance(value, int | float):
            holder[key] = value * chance.choice((-1, 10, 1000, 1e6, 1e-6))
        case 6:
            for _ in range(chance.choice((1, 5, 200))):
                value = [value]
            holder[key] = value
        case _ if isinstance(value, np.ndarray):
            holder[key] = changed_array(value, chance)
        case _:
            holder[key] = copy.deepcopy(chance.choice(WEIRD))


def changed_xml(content: bytes, chance: random.Random) -> bytes:
    """Elements with other text, names or attributes, twice, gone, elsewhere or deep inside."""
    root = ET.fromstring(content)
    for _ in range(chance.choice((1, 1, 2, 5))):
        every = list(root.iter())
        holder = chance.choice([element for element in every if len(element)] or [root])
        place = chance.randrange(len(holder) + 1)
        child = holder[place] if place < len(holder) else holder
        other = copy.deepcopy(chance.choice(every[1:] or every))
        match chance.randrange(9):
            case 0 if child is not holder:
                holder.remove(child)
            case 1:
                holder.insert(place, other)
            case 2 if child is not holder:
                holder[place] = other
            case 3:
                child.tag = chance.choice(every).tag
            case 4:
                child.attrib |= {chance.choice((*child.attrib, "id")): _xml_text(chance)}
            case 5:
                holder[:] = chance.sample(list(holder), len(holder))
            case 6:
                inner = child
                for _ in range(chance.choice((5, 100))):
                    inner = ET.SubElement(inner, "point")
            case _:
                leaf = chance.choice([element for element in every if not len(element)] or [root])
                leaf.text = _xml_text(chance)
    return ET.tostring(root)


def _xml_text(chance: random.Random) -> str:
    return chance.choice([token for token in (*TOKENS, "2018b", "-1e400") if token != "\0"])


def changed_array(array: Any, chance: random.Random) -> Any:
    """Other values, shape or type."""
    array = np.array(array)
    match chance.randrange(8):
        case 0:
            return array.astype(
                chance.choice((bool, np.int8, np.float16, np.complex64, str, ">f8"))
            )
        case 1:
            return array[: chance.randrange(len(array) + 1)] if array.ndim else array[None]
        case 2:
            return array.reshape(-1)
        case 3:
            return array[..., None]
        case 4:
            return array.T
        case 5:
            return np.concatenate([array.reshape(-1)] * chance.choice((0, 2, 20)) or [[]])
    if array.size and array.dtype.kind in "fiub":
        wanted = chance.choice(NUMBERS) if array.dtype.kind == "f" else chance.choice((0, 1, 255))
        array.reshape(-1)[chance.randrange(array.size)] = np.asarray(wanted).astype(array.dtype)
    return array


def changed_table(  # noqa: C901 - one case a way of changing, and no other decision
    table: pa.Table, chance: random.Random
) -> pa.Table:
    """A table with other columns, rows, types or values."""
    place = chance.randrange(table.num_columns)
    name, column = table.column_names[place], table.column(place)
    match chance.randrange(10):
        case 0:
            return table.remove_column(place)
        case 1:
            kinds = (pa.string(), pa.int32(), pa.int8(), pa.float16(), pa.float32(), pa.bool_())
            return table.set_column(place, name, column.cast(chance.choice(kinds), safe=False))
        case 2:
            return table.set_column(place, name, column.combine_chunks().dictionary_encode())
        case 3:
            return table.slice(chance.randrange(table.num_rows + 1), chance.choice((0, 1, 10**6)))
        case 4:
            return pa.concat_tables([table] * chance.choice((2, 3, 20)))
        case 5:
            return table.take(chance.sample(range(table.num_rows), table.num_rows))
        case 6:
            other = table.column_names[chance.randrange(table.num_columns)]
            return table.set_column(place, name, table[other])
        case 7:
            return table.append_column(name, column)  # twice
    values = column.to_pylist()
    every = chance.random() < 0.2
    for _ in range(chance.choice((1, 1, 5))):
        value = _table_value(column.type, chance)
        if every:
            values = [value] * len(values)
        else:
            values[chance.randrange(len(values))] = value
    return table.set_column(place, name, pa.array(values, column.type))


def _table_value(kind: pa.DataType, chance: random.Random) -> Any:
    if pa.types.is_floating(kind):
        return chance.choice((None, 0.0, -1.0, 1e308, *NUMBERS))
    if pa.types.is_integer(kind):
        return chance.choice((None, 0, 1, -1, 2**20, 2**31, 2**62, 2**63 - 1, -(2**63)))
    return chance.choice((None, "", "x", "AV", "0", "\x00", "vehicle"))


def changed_text(text: str, chance: random.Random) -> str:
    """Lines of numbers and words with some of them others, twice, gone or elsewhere."""
    lines = text.split("\n")
    for _ in range(chance.choice((1, 1, 3))):
        at = chance.randrange(len(lines))
        mark = "," if "," in lines[at] else " "
        words = lines[at].split(mark)
        match chance.randrange(8):
            case 0 if len(lines) > 1:
                del lines[at]
            case 1:
                lines.insert(at, lines[at])
            case 2:
                other = chance.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                words.pop(chance.randrange(len(words)))
                lines[at] = mark.join(words)
            case 4:
                return "\n".join(lines[: at + 1]) + chance.choice(("", "\r", "\ufeff"))
            case _:
                words[chance.randrange(len(words))] = chance.choice(TOKENS)
                lines[at] = mark.join(words)
    return "\n".join(lines)


def _changed_record(content: bytes, chance: random.Random) -> bytes:
    """The first record changed as message or as bytes, under checksums that hold."""
    inner = content[12 : 12 + int.from_bytes(content[:8], "little")]
    if chance.random() < 0.5:
        inner = changed_bytes(inner, chance)
    else:
        message = Scenario.FromString(inner)
        for _ in range(chance.choice((1, 1, 5))):
            _change_message(message, chance)
        inner = message.SerializeToString()
    head = len(inner).to_bytes(8, "little")
    first, last = (masked_crc(part).to_bytes(4, "little") for part in (head, inner))
    return head + first + inner + last


def _change_message(message: Any, chance: random.Random) -> None:
    field, value = chance.choice(message.ListFields() or [(None, None)])
    if field is None:
        return
    repeated = not isinstance(value, int | float | bytes) and hasattr(value, "__len__")
    if field.message_type is not None and chance.random() < 0.8:
        inside = value[chance.randrange(len(value))] if repeated else value
        return _change_message(inside, chance)
    if repeated and chance.random() < 0.5:
        return value.extend(list(value)) if chance.random() < 0.3 else value.pop()
    numbers = NUMBERS if field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT) else (0, 1)
    if field.message_type is not None or isinstance(value, bytes):
        message.ClearField(field.name)
    elif repeated:
        value[chance.randrange(len(value))] = chance.choice(numbers)
    else:
        setattr(message, field.name, chance.choice((*numbers, 2**31 - 1, -1)))


def _written(write: Callable[..., None], table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    write(table, buffer, **options)
    return buffer.getvalue()


def _codec(chance: random.Random, usual: str) -> str:
    return chance.choice((usual, "zstd", "uncompressed" if usual == "lz4" else "none"))

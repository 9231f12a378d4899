"""SUMO's floating car data: files that SUMO writes, against what the simulation itself says."""

import gzip
import json
import subprocess
import sys
import tracemalloc
import xml.etree.ElementTree as ET
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.formats import sumo_fcd
from data_tools.formats.sumo_fcd import SIZES_M, read_table
from data_tools.geometry import box_corners
from data_tools.sources import source
from data_tools.sources.sumo_network import run_tool
from forecast.errors import DataError, ForecastError
from tests.support.fuzz import damaged, fuzzed

NODES = (
    '<nodes><node id="a" x="0" y="0"/><node id="b" x="120" y="0"/>'
    '<node id="c" x="120" y="90"/></nodes>'
)
EDGES = (
    '<edges><edge id="ab" from="a" to="b" sidewalkWidth="2"/>'
    '<edge id="bc" from="b" to="c" sidewalkWidth="2"/></edges>'
)
ROUTES = """<routes>
<vType id="lorry" vClass="truck" length="9" width="2.6"/><vType id="velo" vClass="bicycle"/>
<vType id="veh_bus" vClass="bus"/>
<vehicle id="l" type="lorry" depart="0" departPos="20"><route edges="ab bc"/></vehicle>
<vehicle id="0" depart="3"><route edges="ab bc"/></vehicle>
<vehicle id="w" type="velo" depart="5"><route edges="ab bc"/></vehicle>
<vehicle id="b" type="veh_bus" depart="8"><route edges="ab bc"/></vehicle>
<person id="0" depart="8"><walk from="ab" to="bc"/></person>
</routes>"""
# The corners of bodies in the simulation itself, asked of libsumo step by step in another process.
ASK = """
import json, sys, libsumo
files = ["-n", sys.argv[1], "-r", sys.argv[2]]
libsumo.start(["sumo", *files, "--step-length", "0.1", "--no-step-log"])
said = []
while libsumo.simulation.getTime() < 40:
    time = libsumo.simulation.getTime()  # before the step: what the output calls this time
    libsumo.simulationStep()
    v = libsumo.vehicle
    said += [(time, i, v.getVehicleClass(i), *v.getPosition(i), v.getAngle(i), v.getLength(i),
              v.getWidth(i), v.getSpeed(i)) for i in v.getIDList()]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    pytest.importorskip("sumo", reason="the extra `sumo` is not installed")
    folder = tmp_path_factory.mktemp("sumo")
    for name, content in (("n.nod", NODES), ("e.edg", EDGES), ("drive.rou", ROUTES)):
        (folder / f"{name}.xml").write_text(content)
    places = {name: str(folder / f"{name}.xml") for name in ("n.nod", "e.edg", "net", "drive.rou")}
    run_tool("netconvert", ["-n", places["n.nod"], "-e", places["e.edg"], "-o", places["net"]])
    options = ["-n", places["net"], "-r", places["drive.rou"], "--step-length", "0.1"]
    options += ["--end", "40", "--no-step-log", "true", "--precision", "6"]
    for name in ("drive.fcd.xml", "drive.fcd.xml.gz"):
        run_tool("sumo", [*options, "--fcd-output", str(folder / name)])
    return folder


def scene(path, dt_s=0.1, preset="sumo-fcd"):
    tracks = source("tracks", preset=preset)
    (unit,) = tracks.find([str(path)])
    return tracks.read(unit, dt_s)


def test_bodies_are_where_the_simulation_says(simulated):
    pytest.importorskip("libsumo", reason="the extra `sumo` is not installed")
    command = [sys.executable, "-c", ASK, simulated / "net.xml", simulated / "drive.rou.xml"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    said = json.loads(done.stdout[done.stdout.index("[[") :])
    found = scene(simulated / "drive.fcd.xml")
    compared = set()
    for time, name, kind, x, y, angle, length, width, _ in said:
        frame = round((time - found.time_s[0]) / 0.1)
        if frame >= len(found.time_s):
            continue
        track = found.track_id.index(name)
        state = found.state[track, frame]
        assert state[3:] == pytest.approx((length, width))
        front = box_corners(state)[[0, 3]].mean(axis=0)
        np.testing.assert_allclose(front, (x, y), atol=1e-4)
        back = box_corners(state)[[1, 2]].mean(axis=0)
        north, east = np.radians(angle), np.radians(90 - angle)
        np.testing.assert_allclose(
            front - back, length * np.array([np.sin(north), np.sin(east)]), atol=1e-4
        )
        compared.add((name, kind, found.track_class[track]))
    assert compared == {
        ("l", "truck", "truck"),
        ("0", "passenger", "car"),
        ("w", "bicycle", "bicycle"),
        ("b", "bus", "bus"),
    }
    assert len(said) > 500


def test_people_are_apart_from_vehicles_of_the_same_id(simulated):
    found = scene(simulated / "drive.fcd.xml")
    assert found.track_class[found.track_id.index("person:0")] == "pedestrian"
    assert found.track_class[found.track_id.index("0")] == "car"


def test_people_have_a_square_around_the_middle_of_their_body(simulated):
    found = scene(simulated / "drive.fcd.xml")
    walker = found.state[found.track_id.index("person:0")]
    said = {
        round(float(step.get("time")), 6): who
        for step in ET.parse(simulated / "drive.fcd.xml").getroot()
        for who in step.iter("person")
    }
    assert len(said) > 100
    for time, who in said.items():
        state = walker[round((time - found.time_s[0]) / 0.1)]
        angle = np.radians(float(who.get("angle")))
        middle = np.array([float(who.get("x")), float(who.get("y"))])
        middle -= 0.215 / 2 * np.array([np.sin(angle), np.cos(angle)])
        np.testing.assert_allclose(state[:2], middle, atol=1e-5)
        assert state[3:].tolist() == [0.8, 0.8]


def test_rows_are_those_of_the_file_packed_or_not(simulated):
    table = read_table(str(simulated / "drive.fcd.xml"))
    rows = [
        (float(step.get("time")), who.get("id"), float(who.get("x")), float(who.get("angle")))
        for step in ET.parse(simulated / "drive.fcd.xml").getroot()
        for who in step
    ]
    assert len(table) == len(rows) > 1000
    driven = ~table["id"].str.startswith("person:")
    read = table[["time", "x", "angle"]]
    expected = np.array([(time, x, angle) for time, _, x, angle in rows])
    np.testing.assert_allclose(read[driven], expected[driven])
    np.testing.assert_allclose(read[~driven], expected[~driven], atol=0.3)
    names = table["id"].str.removeprefix("person:")
    assert names.tolist() == [name for _, name, _, _ in rows]
    packed = read_table(str(simulated / "drive.fcd.xml.gz"))
    assert packed.equals(table)


def test_sizes_are_sumos_own(simulated):
    pytest.importorskip("libsumo", reason="the extra `sumo` is not installed")
    kinds = "".join(f'<vType id="{kind}" vClass="{kind}"/>' for kind in SIZES_M)
    (simulated / "kinds.rou.xml").write_text(f"<routes>{kinds}</routes>")
    ask = (
        "import json, sys, libsumo as s; s.start(['sumo', '-n', sys.argv[1], '-r', sys.argv[2]]);"
        "t = s.vehicletype; ids = t.getIDList();"
        "print(json.dumps({i: (t.getLength(i), t.getWidth(i)) for i in ids}))"
    )
    command = [sys.executable, "-c", ask, simulated / "net.xml", simulated / "kinds.rou.xml"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    theirs = json.loads(done.stdout[done.stdout.index("{") :])
    person = theirs.pop("pedestrian")
    assert person[0] == sumo_fcd.PERSON_LENGTH_M
    sizes = {kind: size for kind, size in SIZES_M.items() if kind != "pedestrian"}
    assert {kind: tuple(theirs[kind]) for kind in sizes} == sizes


def written(folder, body, name="drive.fcd.xml"):
    path = folder / name
    path.write_text(f"<fcd-export>{body}</fcd-export>")
    return str(path)


def steps(*who):
    return "".join(f'<timestep time="{n}">{one}</timestep>' for n, one in enumerate(who))


CAR = '<vehicle id="a" x="1" y="2" angle="90" type="{}" speed="0"/>'


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [
        ("DEFAULT_VEHTYPE", "passenger", (5.0, 1.8)),
        ("DEFAULT_BIKETYPE", "bicycle", (1.6, 0.65)),
        ("bus", "bus", (12.0, 2.5)),
        ("veh_passenger", "passenger", (5.0, 1.8)),
        ("truck_truck", "truck", (7.1, 2.4)),
        ("my own", "my own", None),
        ("my_own", "my_own", None),
    ],
)
def test_the_name_of_a_type_says_its_class_where_nothing_else_does(tmp_path, name, kind, size):
    table = read_table(written(tmp_path, steps(CAR.format(name))))
    assert table["class"].tolist() == [kind]
    np.testing.assert_array_equal(table[["length", "width"]].iloc[0], size or (np.nan, np.nan))


@pytest.mark.parametrize("ending", [".rou.xml", ".add.xml", ".add.xml.gz"])
def test_types_beside_say_class_and_size(tmp_path, ending):
    root = "routes" if "rou" in ending else "additional"
    types = (
        f'<{root}><vTypeDistribution id="mix"><vType id="my own" length="6.5"/></vTypeDistribution>'
        f'<vType id="bus" vClass="coach"/></{root}>'
    ).encode()
    packed = gzip.compress(types) if ending.endswith(".gz") else types
    (tmp_path / f"drive{ending}").write_bytes(packed)
    table = read_table(written(tmp_path, steps(CAR.format("my own"), CAR.format("bus"))))
    assert table["class"].tolist() == ["passenger", "coach"]
    assert table["length"].tolist() == [6.5, 14.0]
    assert table["width"].tolist() == [1.8, 2.6]


def test_a_file_whose_types_changed_is_read_again(tmp_path):
    path = written(tmp_path, steps(CAR.format("bus"), CAR.format("bus")))
    assert scene(path, 1.0).track_class == ("bus",)
    (tmp_path / "drive.rou.xml").write_text('<routes><vType id="bus" vClass="truck"/></routes>')
    assert scene(path, 1.0).track_class == ("truck",)


def test_who_rides_and_containers_are_no_agents(tmp_path):
    rider = '<person id="p" x="1" y="2" angle="0" type="t" speed="0" vehicle="a"/>'
    container = '<container id="c" x="1" y="2" angle="0" type="t" speed="0"/>'
    table = read_table(written(tmp_path, steps(CAR.format("bus") + rider + container)))
    assert table["id"].tolist() == ["a"]


def test_speeds_may_be_left_out(tmp_path):
    table = read_table(written(tmp_path, steps(CAR.format("bus").replace(' speed="0"', ""))))
    assert np.isnan(table["speed"]).all()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "vehicles or persons; got none"),
        (steps(""), "vehicles or persons; got none"),
        ("<timestep/>", "time of every timestep"),
        ('<timestep time="soon"/>', "time of every timestep; got 'soon'"),
        (steps(CAR.replace('x="1" ', "")), "x of every vehicle; got nothing in timestep 0"),
        (steps(CAR.replace('angle="90" ', "")), "angle of every vehicle"),
        (steps(CAR.replace('"1"', '"nan"')), "x of every vehicle; got 'nan'"),
        (steps(CAR.replace('"1"', '"1e999"')), "x of every vehicle; got '1e999'"),
        (steps(CAR.replace('type="{}"', "")), "id and type of everyone"),
        (steps(CAR.replace('id="a"', "")), "id and type of everyone"),
        ("<timestep>", "an XML file whose root is fcd-export"),
    ],
)
def test_a_file_that_lacks_what_is_needed_is_refused_in_one_line(tmp_path, body, message):
    with pytest.raises(DataError, match=message) as refused:
        read_table(written(tmp_path, body))
    assert "drive.fcd.xml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sumo_fcd, "MAX_BYTES", 300)
    with pytest.raises(DataError, match="XML of 300 bytes at most"):
        read_table(written(tmp_path, steps(*[CAR] * 9)))


@pytest.mark.parametrize("length", ["long", "nan"])
def test_a_faulty_type_is_refused_by_its_name(tmp_path, length):
    (tmp_path / "drive.rou.xml").write_text(f'<routes><vType id="t" length="{length}"/></routes>')
    with pytest.raises(DataError, match=r"length of every vType.*vType t of .*drive\.rou\.xml"):
        read_table(written(tmp_path, steps(CAR)))


def test_memory_grows_by_what_is_kept_of_a_row(tmp_path):
    step = "".join(CAR.format("bus").replace('"a"', f'"{n}"') for n in range(100))
    path = written(tmp_path, steps(*[step] * 200), "drive.fcd.xml")
    rows = sumo_fcd._Rows()
    tracemalloc.start()
    for child in sumo_fcd.read_xml(path, "fcd-export"):
        for who in child if child.tag == "timestep" else ():
            rows.add(0.0, who, "")
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows.time) == 20_000
    assert kept < 120 * 20_000
    assert peak < kept + 10e6  # a piece of the file


@fuzzed
@given(st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "drive.rou.xml").write_text(ROUTES)
    ways = [CAR.format("lorry").replace('"1"', f'"{n}"') for n in range(9)]
    path = written(folder, steps(*ways))
    victim = data.draw(st.sampled_from(sorted(folder.glob("*.xml"))))
    victim.write_bytes(data.draw(damaged(victim.read_bytes())))
    with suppress(ForecastError):
        assert np.isfinite(scene(path, 1.0).state[..., :3]).any()

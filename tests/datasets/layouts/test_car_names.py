"""Make and body type from the names of cars."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.datasets.layouts.annotations import Annotations
from fieldmark.datasets.layouts.car_names import car_levels
from fieldmark.datasets.layouts.matlab import load_mat

DEVKIT = Path(__file__).parents[3].parent / "shared" / "data" / "cars-devkit"

KNOWN = {
    "AM General Hummer SUV 2000": ("AM General", "SUV"),
    "Aston Martin V8 Vantage Convertible 2012": ("Aston Martin", "Convertible"),
    "Land Rover LR2 SUV 2012": ("Land Rover", "SUV"),
    "Mercedes-Benz 300-Class Convertible 1993": ("Mercedes-Benz", "Convertible"),
    "MINI Cooper Roadster Convertible 2012": ("MINI", "Convertible"),
    "smart fortwo Convertible 2012": ("smart", "Convertible"),
    "Daewoo Nubira Wagon 2002": ("Daewoo", "Wagon"),
    "Scion xD Hatchback 2012": ("Scion", "Hatchback"),
    "Ford F-150 Regular Cab 2012": ("Ford", "Pickup"),
    "Ford Ranger SuperCab 2011": ("Ford", "Pickup"),
    "GMC Canyon Extended Cab 2012": ("GMC", "Pickup"),
    "HUMMER H2 SUT Crew Cab 2009": ("HUMMER", "Pickup"),
    "Dodge Ram Pickup 3500 Quad Cab 2009": ("Dodge", "Pickup"),
    "Dodge Dakota Club Cab 2007": ("Dodge", "Pickup"),
    "Ram C/V Cargo Van Minivan 2012": ("Ram", "Minivan"),
    "Ram C-V Cargo Van Minivan 2012": ("Ram", "Minivan"),
    "Ford E-Series Wagon Van 2012": ("Ford", "Van"),
    "Rolls-Royce Phantom Drophead Coupe Convertible 2012": ("Rolls-Royce", "Convertible"),
    "Bentley Continental Supersports Conv. Convertible 2012": ("Bentley", "Convertible"),
    "Hyundai Elantra Touring Hatchback 2012": ("Hyundai", "Hatchback"),
    "Infiniti G Coupe IPL 2012": ("Infiniti", "Coupe"),
    "Lincoln Town Car Sedan 2011": ("Lincoln", "Sedan"),
    "Acura Integra Type R 2001": ("Acura", "other"),
    "Dodge Challenger SRT8 2011": ("Dodge", "other"),
    "FIAT 500 Abarth 2012": ("FIAT", "other"),
    "Lamborghini Gallardo LP 570-4 Superleggera 2012": ("Lamborghini", "other"),
    "Maruti Suzuki Swift Hatchback 2015": ("Maruti Suzuki", "Hatchback"),
    "volvo V90 Estate 2018": ("Volvo", "Wagon"),
    "Tesla 2012": ("Tesla", "other"),
}


def test_make_and_type_come_from_the_name() -> None:
    levels = car_levels(list(KNOWN))
    assert levels is not None
    assert dict(zip(KNOWN, zip(levels["make"], levels["type"], strict=True), strict=True)) == KNOWN


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Kestrel",
        "Ford",
        "Ford Focus Sedan",
        "Ford Focus Sedan 12",
        "Ford Focus Sedan 2012 ",
        "Ford Focus Sedan 3012",
        "Fordson Tractor 1940",
        "Focus 2012",
        "2012",
    ],
)
def test_there_are_no_levels_unless_every_name_is_that_of_a_car(name: str) -> None:
    assert car_levels(["Acura RL Sedan 2012", name]) is None


def test_there_is_no_level_of_types_where_no_name_says_one() -> None:
    assert car_levels(["Jaguar XK XKR 2012", "Buick Regal GS 2012"]) == {"make": ["Jaguar", "Buick"]}
    assert car_levels([]) is None


@pytest.mark.skipif(not DEVKIT.is_dir(), reason="the published devkit is not there")
def test_all_published_names() -> None:
    names = load_mat(Annotations(DEVKIT), "cars_meta.mat", "class_names")["class_names"]
    levels = car_levels(names)
    assert levels is not None and len(names) == 196
    assert len(set(levels["make"])) == 49
    counts = {body: levels["type"].count(body) for body in levels["type"]}
    assert counts == {
        "Sedan": 46,
        "SUV": 34,
        "Convertible": 26,
        "Coupe": 26,
        "Pickup": 18,
        "other": 14,
        "Hatchback": 13,
        "Van": 7,
        "Wagon": 6,
        "Minivan": 6,
    }

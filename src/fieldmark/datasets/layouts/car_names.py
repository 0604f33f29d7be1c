"""Make and body type of cars, from class names as in "Aston Martin V8 Vantage Convertible 2012": make, model, body type, year."""

from __future__ import annotations

import re
from collections.abc import Sequence

OTHER = "other"

_MAKES = """
    Abarth, Acura, Aiways, Alfa Romeo, Alpina, Alpine, AMC, AM General, Aston Martin, Audi, Austin, Austin-Healey, BAIC, Baojun,
    Bentley, Bertone, BMW, Borgward, Brilliance, Bristol, Bugatti, Buick, BYD, Cadillac, Caterham, Changan, Chery, Chevrolet,
    Chrysler, Citroën, Citroen, Cupra, Dacia, Daewoo, DAF, Daihatsu, Daimler, Datsun, De Tomaso, DeLorean, DeSoto, Dodge,
    Dongfeng, DS, Eagle, FAW, Ferrari, FIAT, Fisker, Ford, Foton, GAC, GAZ, Geely, Genesis, Geo, Ginetta, GMC, Great Wall, Hafei,
    Haima, Haval, Hennessey, Hillman, Hindustan, Holden, Honda, Hongqi, HUMMER, Hyundai, INEOS, Infiniti, Isuzu, Iveco, JAC,
    Jaguar, Jeep, Jensen, Kia, Koenigsegg, KTM, Lada, Lamborghini, Lancia, Land Rover, LDV, Lexus, Li Auto, Lifan, Lincoln, Lotus,
    Lucid, Luxgen, Lynk & Co, Mahindra, Maruti Suzuki, Maruti, Maserati, Maxus, Maybach, Mazda, McLaren, Mercedes-AMG,
    Mercedes-Benz, Mercedes-Maybach, Mercedes, Mercury, MG, MINI, Mitsubishi, Mitsuoka, Morgan, Morris, Moskvitch, NIO, Nissan,
    Noble, Oldsmobile, Opel, ORA, Packard, Pagani, Panhard, Perodua, Peugeot, Plymouth, Polestar, Pontiac, Porsche, Proton, Qoros,
    Ram, Ravon, Renault, Rimac, Rivian, Roewe, Rolls-Royce, Rover, Saab, Saleen, Saturn, Scion, SEAT, Shelby, Simca, Škoda, Skoda,
    smart, Soueast, Spyker, SsangYong, Studebaker, Subaru, Sunbeam, Suzuki, Talbot, Tata, Tatra, Tesla, Toyota, Trabant, Triumph,
    TVR, UAZ, Vauxhall, Venturi, VinFast, Volkswagen, Volvo, VW, Wartburg, Wey, Wiesmann, Willys, Wuling, XPeng, Yugo, Zastava,
    ZAZ, Zeekr, Zotye
"""
_TYPES = {
    "Convertible": "Convertible Cabriolet Cabrio Roadster Spyder Spider",
    "Coupe": "Coupe Coupé",
    "Hatchback": "Hatchback",
    "Minivan": "Minivan MPV",
    "Pickup": "Cab SuperCab SuperCrew CrewMax Pickup",
    "Sedan": "Sedan Saloon",
    "SUV": "SUV Crossover",
    "Van": "Van",
    "Wagon": "Wagon Estate",
}
_MAKE_OF = {make.casefold(): make for make in (part.strip() for part in _MAKES.split(","))}
_TYPE_OF = {word.casefold(): body for body, words in _TYPES.items() for word in words.split()}
# The longest make first: "Maruti Suzuki" before "Maruti".
_NAME = re.compile(rf"({'|'.join(sorted(map(re.escape, _MAKE_OF), key=len, reverse=True))}) (?:(.*) )?(?:19|20)\d\d")


def car_levels(class_names: Sequence[str]) -> dict[str, list[str]] | None:
    """The levels "make" and "type", a parent for every class; None unless every name begins with a known make and ends in a year.

    The type is what the last word that names a body type says, so a "Wagon Van" is a Van, and a "Drophead Coupe Convertible" a Convertible.
    A cab of any kind (Regular, Extended, Crew, Quad, Club, SuperCab) is a Pickup. A name without such a word, as "Dodge Challenger SRT8
    2011", has the type "other", even if the model is known to have one body. Without any type in any name, there is no level "type".
    """
    makes, types = [], []
    for name in class_names:
        found = _NAME.fullmatch(name.casefold())
        if found is None:
            return None
        words = (found[2] or "").split()
        makes.append(_MAKE_OF[found[1]])
        types.append(next((_TYPE_OF[word] for word in reversed(words) if word in _TYPE_OF), OTHER))
    levels = {"make": makes}
    if any(body != OTHER for body in types):
        levels["type"] = types
    return levels if makes else None

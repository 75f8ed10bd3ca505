"""The blueprint of the JSON API."""

from flask import Blueprint

blueprint = Blueprint("api", __name__)

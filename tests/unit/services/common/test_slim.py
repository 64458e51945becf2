"""Schemas lose the titles that are only names said again, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from services.common.slim import slim


class Page(BaseModel):
    """Where a page is."""

    title: str = Field(description="Of the page.")
    properties: dict[str, int] = Field(default_factory=dict)
    sub: "list[Page] | None" = None


@pytest.mark.feature("B10")
def test_titles_go_and_properties_that_are_called_so_stay() -> None:
    schema = slim(Page.model_json_schema())
    page = schema["$defs"]["Page"]
    assert set(page["properties"]) == {"title", "properties", "sub"}
    assert page["properties"]["title"] == {"description": "Of the page.", "type": "string"}
    assert page["required"] == ["title"]
    assert '"title": "' not in str(schema).replace("'", '"')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc") | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["type", "items", "anyOf", "enum", "default", "description"]), JSON))
def test_what_has_no_titles_is_left_as_it_is(schema: dict[str, object]) -> None:
    assert slim(schema) == schema

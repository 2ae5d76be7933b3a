"""Sheets and floor plans: what is on them and how large they are. How they look is for eyes."""

import io
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from vmemkit.core import LUMA, cat
from vmemkit.figures import (
    INK,
    choices,
    comparison,
    contact_sheet,
    filmstrip,
    grid,
    panels,
    plan,
    view_colors,
)
from vmemkit.figures.colors import CARD, CARD_INK, CARD_QUIET
from vmemkit.figures.surfel_drawing import DISC, FOOTPRINT, RAY
from vmemkit.pipeline import walk
from vmemkit.retrieval import retrieve


@pytest.fixture(scope="module")
def steps(box):
    return list(walk(box.memory(0.0, 60.0), box.look(*range(10, 70, 10)), m=3))


@pytest.fixture(scope="module")
def truth(box):
    return box.render(box.look(*range(10, 70, 10))).image


def pixels(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def shows(figure: Figure, color) -> bool:
    """Whether some pixel has exactly this colour."""
    wanted = tuple(round(255 * float(c)) for c in color)
    return wanted in {color for _, color in pixels(figure).getcolors(1 << 24)}


def test_a_contact_sheet_has_a_row_per_step_with_everything_in_it(steps, truth):
    figure = contact_sheet(steps, truth, title="a title")
    images = figure.axes[0].images
    chosen = sum(len(step.retrieval.chosen) for step in steps)
    assert len(images) == chosen + 2 * 3 * 2  # a sheet shows the first and last of three targets
    assert pixels(figure).width == 1200
    assert "a title" in texts(figure)
    assert any(text.startswith("given 0") for text in texts(figure))
    assert "view 7" in texts(figure)


def test_images_of_a_contact_sheet_are_a_fifth_of_the_page_wide(steps, truth):
    """They were an eighth, too small for a projector."""
    for image in contact_sheet(steps, truth, rows=[1]).axes[0].images:
        left, right, *_ = image.get_extent()
        assert 0.18 < right - left < 0.2
    alone = contact_sheet(list(walk(steps[0].before, steps[0].targets, m=1)))
    assert (
        min(right - left for left, right, *_ in map(AxesImage.get_extent, alone.axes[0].images))
        > 0.1
    )


def contrast(a: str, b: str) -> float:
    """Of two colours, as WCAG 2.2 defines it."""
    linear = [
        torch.tensor(
            [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(x)]
        )
        for x in (a, b)
    ]
    low, high = sorted(float(x @ torch.tensor([0.2126, 0.7152, 0.0722])) for x in linear)
    return (high + 0.05) / (low + 0.05)


def test_pictures_are_cards_on_which_all_texts_can_be_read(steps, truth):
    """The card is opaque, so what is legible on it is legible on light and on dark pages."""
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("#767676", "white") == pytest.approx(4.54, abs=0.01)  # by WCAG's own examples
    for color in (CARD_INK, CARD_QUIET, RAY, FOOTPRINT, DISC):
        assert contrast(color, CARD) > 4.5
    # It is seen as a card on JupyterLab's dark page as on a white one.
    assert min(contrast(CARD, "#111111"), contrast(CARD, "white")) > 1.4
    for figure in (contact_sheet(steps, truth, "a title"), plan(steps[-1].memory, rows=60)):
        shown = Image.open(io.BytesIO(figure._repr_jpeg_()))
        corner = torch.tensor(shown.getpixel((0, 0))) / 255
        assert (corner - torch.tensor(to_rgb(CARD))).abs().max() < 0.02


def test_views_wear_their_colours_as_frames(steps, truth):
    figure = contact_sheet(steps, truth)
    for view in (*steps[0].retrieval.chosen.tolist(), 2, 7):
        assert shows(figure, view_colors(view + 1)[view])


def test_without_the_truth_targets_are_shown_as_recalled(steps, truth):
    assert any("recalled" in text for text in texts(contact_sheet(steps)))
    assert any("truth" in text for text in texts(contact_sheet(steps, truth)))


def test_rows_of_a_contact_sheet_can_be_chosen(steps):
    one, two = (pixels(contact_sheet(steps, rows=rows)).height for rows in ([1], 2))
    assert one < two
    assert pixels(contact_sheet(steps, rows=99)).height == two


def test_a_comparison_shows_truth_and_per_walk_what_was_chosen_and_made(steps, truth):
    figure = comparison({"a": steps, "b": steps}, truth, [0, 5])
    assert {"truth", "a: chosen", "b: chosen"} <= set(texts(figure))
    made = [image.get_array() for image in figure.axes[0].images]
    last = steps[-1].views.image[-1].permute(1, 2, 0).numpy()
    assert sum(image.shape == last.shape and (image == last).all() for image in made) >= 2


def test_a_filmstrip_shows_every_image(truth):
    assert len(filmstrip(truth, columns=4).axes[0].images) == len(truth)
    assert texts(filmstrip(truth)) == [*map(str, range(len(truth)))]


def test_choices_and_panels_name_their_columns(box):
    memory = box.memory(0.0, 60.0)
    retrievals = {
        name: retrieve(memory, box.look(30.0), 1, name) for name in ("coverage", "temporal")
    }
    assert {"coverage", "temporal"} <= set(texts(choices(memory, retrievals)))
    grey = torch.rand(1, 6, 8)
    assert texts(panels({"depth": grey, "image": grey.expand(3, 6, 8)})) == ["depth", "image"]


@pytest.mark.parametrize("elevation", [30.0, 60.0, 90.0])
def test_a_plan_shows_the_memory_and_its_cameras(box, elevation):
    memory = box.memory(0.0, 90.0, 200.0)
    retrieval = retrieve(memory, box.look(45.0), k=2)
    figure = plan(memory, retrieval, elevation=elevation, rows=60)
    assert pixels(figure).width == 1200
    assert len(figure.axes[0].lines) == 3 + 1
    assert shows(plan(memory, rows=60), view_colors(1)[0]) or elevation > 0


def test_plans_are_the_right_way_round(box):
    """Seen from above, a camera that looks ahead looks up, and right is right."""
    memory = box.memory(0.0)
    figure = plan(memory, path=cat([box.look(0.0), box.look(90.0)]), elevation=90.0, rows=60)
    ahead, right = (torch.tensor(line.get_xydata()) for line in figure.axes[0].lines)
    eye, corners = ahead[5], ahead[:4].mean(0)
    assert corners[1] < eye[1] - 1  # rows of an image grow downwards
    assert right[:4].mean(0)[0] > right[5][0] + 1


def test_figures_show_themselves_in_notebooks_and_need_no_pyplot(truth):
    assert filmstrip(truth)._repr_jpeg_().startswith(b"\xff\xd8")
    check = "import sys, vmemkit.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_drawing_changes_nothing_that_it_is_given(steps, truth):
    before = [step.retrieval.chosen.clone() for step in steps]
    original = truth.clone()
    contact_sheet(steps, truth)
    plan(steps[-1].memory, rows=40)
    assert torch.equal(truth, original)
    assert all(torch.equal(a, b.retrieval.chosen) for a, b in zip(before, steps, strict=True))


def test_labels_are_readable(truth):
    """Labels are dark on light colours and white on dark ones."""
    figure = filmstrip(truth)
    for view, text in enumerate(figure.axes[0].texts):
        luma = float(view_colors(view + 1)[view] @ torch.tensor(LUMA))
        assert (text.get_color() == INK) == (luma > 0.5)


def test_steps_without_much_memory_are_shown_too(box):
    """One view, one target: mosaics of one."""
    (step,) = walk(box.memory(0.0), box.look(5.0))
    assert len(contact_sheet([replace(step)]).axes[0].images) == 4


def test_a_grid_names_its_rows_and_heads_its_columns(truth):
    figure = grid({"first": truth, "second": 1 - truth}, ["a", "b"], columns=[0, 5])
    images = figure.axes[0].images
    assert len(images) == 4
    assert torch.allclose(torch.from_numpy(images[3].get_array()).permute(2, 0, 1), 1 - truth[5])
    assert {"first", "second", "a", "b"} == set(texts(figure))
    assert len(grid({"all": truth}).axes[0].images) == 6

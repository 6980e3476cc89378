"""Drawings: every mark inside, higher shares higher, and only where there is something to draw."""

import pytest

from eval.chart import HEIGHT, variant_chart
from eval.metric_words import figure, interval, percent, shown_metrics, title
from eval.task_charts import task_charts
from eval.text_depths import TextDepths


def test_small_shares_keep_their_digits():
    assert [percent(share) for share in (0.0, 0.00054, 0.0123, 0.5, 1.0)] == [
        "0.0",
        "0.05",
        "1.2",
        "50.0",
        "100.0",
    ]


def test_ranks_are_no_percentages():
    assert figure("text_retrieval_median_rank", 1.0) == "1"
    assert interval("text_retrieval_median_rank", (13.0, 15.5)) == "[13, 15.5]"
    assert interval("acc1", [0.251, 0.2829]) == "[25.1, 28.3]"


def test_metrics_stand_in_their_order_kinds_below_their_metric_and_unknown_ones_last():
    names = ["new", "image_retrieval_recall@5", "acc5", "accuracy:b", "accuracy", "accuracy:a",
             "image_retrieval_recall@10", "image_retrieval_recall@1", "acc1"]  # fmt: skip
    assert shown_metrics([{"metrics": dict.fromkeys(names, 0.5)}]) == [
        "acc1", "acc5", "accuracy", "accuracy:a", "accuracy:b", "image_retrieval_recall@1",
        "image_retrieval_recall@5", "image_retrieval_recall@10", "new",
    ]  # fmt: skip
    assert title("image_retrieval_recall@5") == "text → image R@5"
    assert title("accuracy:swap") == "right choice · swap"


@pytest.mark.parametrize("values", [[0.0], [0.004, 0.003], [0.34, 0.31, 0.28], [1.0, 1.0]])
def test_every_mark_of_the_chart_lies_inside_and_higher_shares_stand_higher(values):
    variants = [f"v{number}" for number in range(len(values))]
    bounds = [(0.8 * value, min(1.0, 1.3 * value)) for value in values]
    chart = variant_chart(
        variants, {"a": values, "b": values}, {"a": 0.0005, "b": 0.002}, intervals={"a": bounds}
    )
    for line in chart.lines:
        heights = [height for _, height in line.points]
        assert all(0 <= height <= HEIGHT for height in heights)
        assert sorted(heights) == [
            h for _, h in sorted(zip(values, heights, strict=True), reverse=True)
        ]
        assert heights[0] <= chart.bottom
    for (x, upper, lower), (place, height) in zip(
        chart.lines[0].whiskers, chart.lines[0].points, strict=True
    ):
        assert x == place
        assert 0 <= upper <= height <= lower <= chart.bottom
    assert chart.lines[1].whiskers == []
    assert abs(chart.lines[0].label_height - chart.lines[1].label_height) >= 10
    assert chart.ticks[0][1] == "0"


def test_costs_say_where_variants_stand():
    def gaps(costs):
        chart = variant_chart(["AB", "AAB", "AAAAB"], {"a": [0.1, 0.2, 0.3]}, {}, costs=costs)
        (first, _), (second, _), (third, _) = chart.variants
        assert chart.left < first < second < third < chart.right
        return (third - second) / (second - first)

    assert gaps([8.0, 12.0, 20.0]) == pytest.approx(2, abs=0.01)
    assert gaps(None) == pytest.approx(1, abs=0.01)


def depths(**flops):
    return TextDepths(layers={}, flops=flops, trained=frozenset({"AAAB"}), caption_tokens=8.25)


def rows(texts, images, **metrics):
    return [
        {
            "variant": text,
            "image_variant": image,
            "metrics": metrics or {"acc1": 0.1 * len(text), "acc5": 0.5, "mean": 0.3},
            "chance": {"acc1": 0.01},
            "intervals": {},
        }
        for text in texts
        for image in images
    ]


def test_depths_of_pictures_are_lines_and_depths_of_texts_go_across():
    (chart,) = task_charts(rows(["AB", "AAB", "AAAB"], ["AB", "AAB"]), depths(AB=8e6, AAB=12e6))
    assert [name for _, name in chart.variants] == ["AB", "AAB", "AAAB"]
    assert [line.title for line in chart.lines] == ["AB", "AAB"]
    assert "top-1" in chart.title
    assert [line.chance_height is None for line in chart.lines] == [False, True]
    heights = [[height for _, height in line.points] for line in chart.lines]
    assert heights[0] == heights[1] == sorted(heights[0], reverse=True)


def test_with_one_depth_of_pictures_headlines_are_lines():
    known = depths(AB=8e6, AAB=12e6)
    (chart,) = task_charts(rows(["AB", "AAB"], ["AB"], accuracy=0.5, group_score=0.4), known)
    assert [line.title for line in chart.lines] == ["right choice", "group score"]
    assert [cost for _, cost in chart.costs] == ["8M", "12M"]
    (chart,) = task_charts(rows(["AB"], ["AB", "AAB"], knn_acc1=0.5), known)
    assert chart.costs == [] and chart.marked is None
    assert [name for _, name in chart.variants] == ["AB", "AAB"]
    assert "image" in chart.across


def test_quality_stands_over_cost_with_a_mark_at_the_trained_depth():
    texts = ["AAAAB", "AB", "AAB", "AAAB"]
    known = depths(AB=8e6, AAB=12e6, AAAB=16e6, AAAAB=20e6)
    (chart,) = task_charts(rows(texts, ["AB"]), known)
    assert [name for _, name in chart.variants] == ["AB", "AAB", "AAAB", "AAAAB"]
    assert "FLOPs per caption of 8.25 tokens" in chart.across
    assert chart.marked == chart.variants[2][0]
    assert chart.lines[0].chance_height is not None
    heights = [height for _, height in chart.lines[0].points]
    # What the toy results say rises with the length of the name.
    assert heights == sorted(heights, reverse=True)
    # Two depths of one cost: then names stand side by side.
    (chart,) = task_charts(rows(texts, ["AB"]), depths(AB=8e6, AAB=8e6, AAAB=16e6, AAAAB=20e6))
    assert chart.costs == [] and [name for _, name in chart.variants] == texts


def test_a_single_point_and_results_with_holes_are_not_drawn():
    assert task_charts(rows(["AB"], ["AB"]), None) == []
    assert task_charts(rows(["AB", "AAB"], ["AB", "AAB"])[:3], None) == []
    assert task_charts(rows(["AB", "AAB"], ["AB"], unheard_of=0.5), None) == []
    holes = rows(["AB", "AAB"], ["AB"])
    del holes[1]["metrics"]["acc1"]
    assert task_charts(holes, None) == []

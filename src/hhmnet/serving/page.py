"""The page for the browser: Gradio's, but clips go from the browser straight to the API and never through Gradio."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from fastapi import FastAPI

_WEB = Path(__file__).parent / "web"
_SCRIPTS = ("clock.js", "drawing.js", "timeline.js", "page.js")  # one function for Gradio, so one scope
_INTRODUCTION = """# hhmnet
What does the person do? Drop a clip, or record one. The server deletes it as soon as it is answered."""

_SHOW = "() => window.hhmnet.results()"
_EMPTY = "() => window.hhmnet.nothing()"
_MODALITIES = "(chosen) => { window.hhmnet.goBy(chosen); return []; }"
_TOKEN = "(token) => { window.hhmnet.setToken(token); return []; }"


def mount_page(app: FastAPI, needs_token: bool) -> None:
    """Put the page at ``/`` of an application that has the API; with a field for the token if one is needed.

    Only what :class:`hhmnet.serving.gate.Gate` lets through can be reached.
    """
    gr.mount_gradio_app(
        app,
        _page(needs_token),
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=".gradio-container { max-width: 1200px !important; margin: auto; }",
    )


def _page(needs_token: bool) -> gr.Blocks:
    with gr.Blocks(title="hhmnet", analytics_enabled=False) as page:
        gr.Markdown(_INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=3):
                stage = gr.HTML(
                    html_template=(_WEB / "page.html").read_text("utf-8"),
                    css_template=(_WEB / "page.css").read_text("utf-8"),
                    js_on_load="\n".join((_WEB / name).read_text("utf-8") for name in _SCRIPTS),
                    elem_id="stage",
                )
            with gr.Column(scale=2):
                answer = gr.Label(label="answer", num_top_classes=5, elem_id="answer")
                votes = gr.Dataframe(
                    headers=["by", "says", "probability"],
                    label="votes of the streams",
                    interactive=False,
                    elem_id="votes",
                )
                modalities = gr.CheckboxGroup(
                    ["skeleton", "video"],
                    value=["skeleton", "video"],
                    label="go by",
                    info="what the model doesn't look at is passed over",
                    elem_id="modalities",
                )
                token = gr.Textbox(
                    label="token",
                    type="password",
                    visible=needs_token,
                    elem_id="token",
                    autofocus=needs_token,
                )
        stage.clear(None, outputs=[answer, votes], js=_EMPTY)
        stage.submit(None, outputs=[answer, votes], js=_SHOW)
        modalities.change(None, inputs=[modalities], js=_MODALITIES)
        token.change(None, inputs=[token], js=_TOKEN)
    return page

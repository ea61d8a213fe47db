"""What the page says where the server does not answer, or in no words of ours."""

from __future__ import annotations

import re

from anonymize_faces.tests.browser.workbench import Workbench


def test_a_server_that_is_away_and_what_is_no_file_are_told_in_sentences(workbench: Workbench) -> None:
    page, route = workbench.page, "**/anonymize_faces/prefixes**"
    page.evaluate("() => window.app.extensionManager.sidebarTab.toggleSidebarTab('anonymize-faces')")
    tab = page.locator(".anonymize-faces-library")
    alarm = tab.locator("[role=alert]")
    for answer, told in (
        (lambda call: call.abort(), "The server does not answer."),
        (lambda call: call.fulfill(status=500, body="<h1>500 Internal Server Error</h1>"), "could not do that (500)"),
        (lambda call: call.fulfill(status=200, body="<html>"), "could not do that (200)"),
        (lambda call: call.fulfill(status=409, json={"error": "Tom & Ann <3"}), "Tom & Ann <3"),
    ):
        page.route(route, answer)
        tab.get_by_role("button", name="Look again").click()
        alarm.filter(has_text=told).wait_for()
        page.unroute(route)
    tab.get_by_role("button", name="Look again").click()
    tab.locator("div.alarm[role=alert]").filter(has_text=re.compile("^$")).wait_for(state="attached")
    page.evaluate(
        """() => {
            const file = new File(["x"], "folder");
            file.arrayBuffer = () => Promise.reject(new DOMException("NotFoundError"));
            const files = { files: [file] };
            const place = document.querySelector(".anonymize-faces-library");
            const event = new DragEvent("drop", { bubbles: true });
            Object.defineProperty(event, "dataTransfer", { value: files });
            place.dispatchEvent(event);
        }"""
    )
    alarm.filter(has_text="folder cannot be read.").wait_for()
    page.evaluate("() => window.app.extensionManager.sidebarTab.toggleSidebarTab('anonymize-faces')")
    workbench.complaints.clear()  # Of the answers that were kept away.

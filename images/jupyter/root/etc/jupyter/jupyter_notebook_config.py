# Settings of the classic notebook and, by the link jupyter_server_config.py, of JupyterLab. What a user writes to
# ~/.jupyter wins. The token is JUPYTER_TOKEN's, which Jupyter reads itself; without it one is made and logged.
import os

c = get_config()  # noqa: F821 # Jupyter's

home = os.environ["HOME"]
lang = os.environ.get("JUPYTER_LANG", "")
theme = os.environ.get("JUPYTER_THEME", "light")

# inpod's route is in front, on every address; nothing else reaches this port.
common = {
    "ip": "127.0.0.1",
    "port": 18888,
    "port_retries": 0,
    "base_url": "/jupyter/",
    "open_browser": False,
    "allow_root": True,
    "allow_remote_access": True,  # the Host that a client asked for is not 127.0.0.1
    "trust_xheaders": True,
    # A platform's console shows the page in a frame of its own.
    "tornado_settings": {"headers": {"Content-Security-Policy": "frame-ancestors *; report-uri /jupyter/api/security/csp-report"}},
}
if theme == "dark":
    common["tornado_settings"]["static_custom_path"] = [os.path.join(home, ".jupyter", "custom"), "/usr/local/lib/jupyter/dark"]
for key, value in common.items():
    setattr(c.NotebookApp, key, value)
    setattr(c.ServerApp, key, value)
c.NotebookApp.notebook_dir = home
c.ServerApp.root_dir = home
c.NotebookApp.quit_button = c.ServerApp.quit_button = False  # it would only be started again

if lang:
    os.environ["LANGUAGE"] = lang  # gettext's, for what the server renders
    try:
        # The classic notebook takes its pages' language from the browser alone; here the setting wins.
        from notebook.base import handlers

        translations = handlers.combine_translations
        handlers.combine_translations = lambda accept_language: translations(lang.replace("_", "-"))
    except ImportError:
        pass  # JupyterLab has a setting for it

"""The tutorial as a web page with the model in it.

    python -m tutorial.page SITE NOTEBOOK...    # what `make run`, `make zh` and `make site` call

    live        what a notebook's output carries, so that the page can bring its picture to life
    models      the miniature as files for the browser
    html        an executed notebook as one page
    __main__    the command

    templates/  the page as nbconvert's template        page.css    its looks
    tokenizer.js, gpt2.js       GPT-2 for the browser, to be read
    models.js                   loads both models; window.miniature.ask
    widgets.js, reading.js      what figures share; contents, folding, copying
    ask.js, token.js, training.js, batch.js, attention.js       one figure each
    strings.json                the page's own texts, in both languages

Everything a page needs is in its one file, except the two models: `base.js` and `tuned.js`, scripts that hold weights,
so that they can be loaded from the disk as well.
"""

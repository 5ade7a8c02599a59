"""ProcessModels of the library's Lava Processes. Import them as ``lava_snnlearn.processes.<name>.models``, as Lava does."""
